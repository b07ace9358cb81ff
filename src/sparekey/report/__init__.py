"""Output formats: one module each (`interface.py` has its shape), found by looking into this folder."""

from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from sparekey.errors import BadInputError
from sparekey.formatting import escaped
from sparekey.plugins import modules_in
from sparekey.report.interface import DEFAULT_OPTIONS, RenderOptions, Subject

__all__ = ["DEFAULT_OPTIONS", "RenderOptions", "Subject", "check", "formats_of", "registry", "render"]


@cache
def registry() -> Mapping[str, ModuleType]:
    """Every format by its name, sorted."""
    return {module.NAME: module for module in modules_in(__name__, __path__).values()}


def formats_of(subject: Subject) -> tuple[str, ...]:
    """The names of the formats that offer a subject, sorted."""
    return tuple(name for name, module in registry().items() if hasattr(module, subject))


def check(subject: Subject, name: str) -> None:
    """Raise BadInputError where a format does not offer a subject."""
    offered = formats_of(subject)
    if name not in offered:
        label = subject.replace("_", " ")
        raise BadInputError(f"there is no format {name!r} for {label}", f"Formats: {', '.join(offered)}.")


def render(
    subject: Subject, value: Any, name: str, options: RenderOptions = DEFAULT_OPTIONS
) -> Iterator[str]:
    """Yield a value's text in a format; raises BadInputError where the format does not offer it.

    Foreign names never reach a terminal as something that it acts on, whatever the format.
    """
    check(subject, name)
    yield from map(escaped, getattr(registry()[name], subject)(value, options))
