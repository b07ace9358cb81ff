"""One module a verb, each holding `COMMAND`; found by looking into this folder."""

import importlib
import pkgutil
from collections.abc import Iterator

import click


def all_commands() -> Iterator[click.Command]:
    """Every verb, in the order of the alphabet."""
    for found in pkgutil.iter_modules(__path__):
        command: click.Command = importlib.import_module(f"{__name__}.{found.name}").COMMAND
        yield command
