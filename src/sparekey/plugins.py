"""Finds the modules of a plug-in room: one module per rule, format, channel, probe kind or usage source."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType

INTERFACE = "interface"


def names_in(path: Iterable[str]) -> tuple[str, ...]:
    """The names of the plug-ins under a package's `__path__`: all but `interface` and those with an underscore."""
    names = (info.name for info in pkgutil.iter_modules(path))
    return tuple(sorted(name for name in names if name != INTERFACE and not name.startswith("_")))


def modules_in(package: str, path: Iterable[str]) -> Mapping[str, ModuleType]:
    """The plug-ins of a package by module name, imported."""
    return {name: importlib.import_module(f"{package}.{name}") for name in names_in(path)}
