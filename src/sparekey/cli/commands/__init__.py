"""One module per command, each with a function `<module>_command`; the folder is the registry."""

import importlib
import pkgutil
from collections.abc import Iterator

import click


def all_commands() -> Iterator[click.Command]:
    """Every command, in alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        found = importlib.import_module(f"{__name__}.{module.name}")
        command: click.Command = getattr(found, f"{module.name}_command")
        yield command
