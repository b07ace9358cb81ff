"""The formats a result can leave in: one module each, found by looking into this folder.

A format module holds `NAME` and any of `audit(Audit, Look)`, `plan(Plan, Look)`, `run(RunRecord, Look)`,
`runs(tuple[RunRecord, ...], Look)`, `root_keys((tuple[RootKeys, ...], now), Look)` and
`usage(tuple[Usage, ...], Look)`, each yielding text. A format that lacks one of them does not offer it.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any, Literal

from sparekey.errors import BadInputError
from sparekey.formatting import escaped
from sparekey.model import Value

Subject = Literal["audit", "plan", "run", "runs", "root_keys", "usage"]


class RenderOptions(Value, frozen=True):
    """How it is wanted: columns, whether colour is shown, whether what passes is. Files get the defaults.

    `region` is where finding formats say that the finding is; empty for the partition's first.
    """

    width: int = 100
    color: bool = False
    show_all: bool = False
    region: str = ""


DEFAULT_OPTIONS = RenderOptions()


@cache
def registry() -> Mapping[str, ModuleType]:
    """Every format by its name, sorted."""
    modules = (
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if not info.name.startswith("_")
    )
    return dict(sorted((module.NAME, module) for module in modules))


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
