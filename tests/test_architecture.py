"""The architecture: the code imports what `tools/rooms.py` allows, late imports included."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rooms import LATE, NO_ERRORS, PURE, ROOMS

from sparekey.plugins import names_in

SOURCE = Path(__file__).parents[1] / "src" / "sparekey"

PURE_IMPORTS = {
    *("collections", "datetime", "enum", "fnmatch", "functools", "hashlib", "itertools", "math"),
    *("msgspec", "operator", "re", "re2", "tomllib", "typing"),
}
# … but a registry finds the modules beside it.
IMPURE_NAMES = {"open", "input", "print", "eval", "exec", "compile", "__import__", "breakpoint"}
IMPURE_METHODS = {"now", "utcnow", "today"}


class Import:
    """One import: the module that imports, what it imports, and whether only when a function runs."""

    def __init__(self, module: str, target: str, late: bool) -> None:
        self.module, self.target, self.late = module, target, late


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def room(module: str) -> str:
    """The room of a module of ours: `sparekey.rules.old_key` is in `rules`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(module: str, source: str, package: bool = False) -> Iterator[Import]:
    """Every import in a module, whatever function it stands in; relative ones made absolute."""
    tree = ast.parse(source)
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, id(node) in late)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            if node.level:
                base = base[: len(base) - node.level + package]
                start = ".".join([*base, *([node.module] if node.module else [])])
            else:
                start = node.module or ""
            for alias in node.names:
                yield Import(module, f"{start}.{alias.name}", id(node) in late)


def forbidden(found: Import) -> str | None:
    """Why an import breaks the table, or None."""
    here = room(found.module)
    parts = found.target.split(".")
    if parts[0] == "sparekey":
        there = room(found.target) if len(parts) > 1 and room(found.target) in ROOMS else "__init__"
        if there in (here, "__init__"):
            return None
        if there == "errors" and here not in NO_ERRORS:
            return None
        if there not in ROOMS[here].imports:
            return f"{found.module} imports {found.target}: {here} may not import {there}"
        if there in LATE and not (found.late or here in LATE):
            return f"{found.module} imports {found.target}: only a command may, when it runs"
        return None
    if here in PURE and parts[0] not in PURE_IMPORTS:
        return f"{found.module} imports {found.target}: a pure room imports only {sorted(PURE_IMPORTS)}"
    return None


def impure(module: str, source: str) -> Iterator[str]:
    """Calls of a pure room that ask the machine something."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in IMPURE_NAMES:
            yield f"{module}:{node.lineno} uses {node.id}"
        if isinstance(node, ast.Attribute) and node.attr in IMPURE_METHODS and not _is_given(node):
            yield f"{module}:{node.lineno} asks for the time with .{node.attr}"


def _is_given(node: ast.Attribute) -> bool:
    """True for `context.now`: the time that a decision is handed."""
    return node.attr == "now" and isinstance(node.value, ast.Name) and node.value.id == "context"


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_in_a_room_and_keeps_to_it(module: str) -> None:
    assert room(module) in ROOMS, f"{module} is in no room: add its room to the table, and to the design"
    path = MODULES[module]
    package = path.name == "__init__.py" and path.parent != SOURCE
    found = imports(module, path.read_text(), package)
    assert [result for result in map(forbidden, found) if result] == []


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in PURE])
def test_deciding_asks_no_clock_and_no_machine(module: str) -> None:
    assert list(impure(module, MODULES[module].read_text())) == []


def test_the_table_names_only_rooms() -> None:
    assert {name for room_ in ROOMS.values() for name in room_.imports} <= set(ROOMS)


def test_no_two_rooms_need_one_another() -> None:
    """A cycle between rooms would make them one room."""
    free: set[str] = set()
    while len(free) < len(ROOMS):
        more = {name for name, room_ in ROOMS.items() if name not in free and room_.imports - {name} <= free}
        assert more, f"these need one another: {sorted(set(ROOMS) - free)}"
        free |= more


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sparekey.selection", "from sparekey.plan import Plan"),
        ("sparekey.selection", "from sparekey import guards"),
        ("sparekey.selection", "def late():\n    from sparekey.aws.access_keys import KeyWriter"),
        ("sparekey.rules.old_key", "from ..aws import access_keys"),
        ("sparekey.rules.old_key", "import importlib"),
        ("sparekey.model", "from sparekey.errors import SparekeyError"),
        ("sparekey.clock", "import sparekey.model"),
        ("sparekey.plan", "import os"),
        ("sparekey.policy", "from pathlib import Path"),
        ("sparekey.guards", "def late():\n    import random"),
        ("sparekey.sandbox.iam", "from sparekey.model import ACTIVE"),
        ("sparekey.runs.apply", "def late():\n    from sparekey.sandbox import serve"),
        ("sparekey.app", "from sparekey.sandbox import serve"),
        ("sparekey.app", "from sparekey import demo"),
        ("sparekey.demo", "from sparekey.app import audit"),
        ("sparekey.cli.commands.plan", "from sparekey.selection import choose"),
        ("sparekey.cli.commands.plan", "from sparekey import selection"),
        ("sparekey.report.csv", "from sparekey.app import audit"),
        ("sparekey.console.pages", "from sparekey.aws import access_keys"),
    ],
)
def test_the_table_refuses(module: str, source: str) -> None:
    assert [result for result in map(forbidden, imports(module, source)) if result]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sparekey.selection", "from sparekey import cutover, __version__"),
        ("sparekey.rules.old_key", "from . import RULE\nfrom .._x import y"),
        (
            "sparekey.runs.apply",
            "from sparekey.guards import refuse\nfrom sparekey.runs.deactivate import go",
        ),
        ("sparekey.app", "def demo():\n    from sparekey.sandbox import serve"),
        ("sparekey.demo", "from sparekey.sandbox import serve"),
        ("sparekey.aws.access_keys", "import botocore\nfrom sparekey.errors import SparekeyError"),
    ],
)
def test_the_table_allows(module: str, source: str) -> None:
    assert [result for result in map(forbidden, imports(module, source)) if result] == []


@pytest.mark.parametrize("source", ["datetime.now()", "date.today()", "open('x')", "f = print"])
def test_a_call_that_asks_the_machine_is_seen(source: str) -> None:
    assert list(impure("sparekey.selection", source))


def test_no_two_classes_have_one_name() -> None:
    """A reader who meets a name finds one definition."""
    named: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                named.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in named.items() if len(modules) > 1} == {}


@pytest.mark.parametrize("room_", ["rules", "probes", "report", "notify", "usage/sources"])
def test_each_plug_in_room_has_an_interface(room_: str) -> None:
    folder = SOURCE / room_
    assert ast.get_docstring(ast.parse((folder / "interface.py").read_text(encoding="utf-8")))
    assert "interface" not in names_in([str(folder)])
    assert len(names_in([str(folder)])) > 2


def test_the_picture_shows_rooms_that_exist() -> None:
    page = (SOURCE.parents[1] / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    picture = page.partition("```mermaid\n")[2].partition("```")[0]
    bare = re.sub(r'"[^"]*"|\[\(.*?\)\]|--? ?[A-Za-z]+ -->', " ", picture)
    words = set(re.findall(r"\w+", bare)) - {"flowchart", "LR", "subgraph", "end", "pure", "AWS"}
    assert words <= set(ROOMS), words - set(ROOMS)
    assert {"audit", "planner", "selection", "guards", "runs", "ledger", "report"} <= words
