"""Write again what the docs take from the code; with --check only say what is out of date.

A part of a page stands between `<!-- generated: NAME -->` and `<!-- end -->`; a page that is generated
whole stands in PAGES.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path

import click
from man_pages import man_pages
from rooms import PURE, ROOMS

from sparekey.cli import cli as commands
from sparekey.cli.topics import ENVIRONMENT, EXIT_CODES
from sparekey.guards import GUARDS
from sparekey.handover import copies, stores
from sparekey.rules import CIS_VERSIONS, registry
from sparekey.selection import HOLD_REASONS

ROOT = Path(__file__).resolve().parent.parent
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def holds() -> str:
    """The reasons for which choosing holds a key."""

    def plain(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: f"*{match[1]}*", text)

    return table(
        ("reason", "why the key is held", "what releases it"),
        ((f"`{code}`", plain(why), plain(release)) for code, (why, release) in sorted(HOLD_REASONS.items())),
    )


def destinations() -> str:
    """The kinds of places that a new key is put in."""

    def mark(name: str, kinds: Iterable[str]) -> str:
        return "yes" if name in kinds else ""

    names = sorted({*stores(), *copies()})
    docs = {name: import_module(f"sparekey.handover.{name}").__doc__ or "" for name in names}
    return table(
        ("kind", "place", "store", "copy"),
        (
            (f"`{name}`", docs[name].splitlines()[0], mark(name, stores()), mark(name, copies()))
            for name in names
        ),
    )


def guards() -> str:
    """What a whole plan is held to."""
    return "".join(f"- {guard.__doc__}\n" for guard in GUARDS)


def cli() -> str:
    """Every command's own help, as a terminal of a hundred columns shows it."""
    page = [
        _CLI_HEAD,
        table(("exit code", "meaning"), EXIT_CODES),
        table(("environment", "meaning"), ((f"`{name}`", what) for name, what in ENVIRONMENT)),
    ]
    whole = click.Context(commands, info_name="sparekey", terminal_width=100, **commands.context_settings)
    for name, context in sorted(_contexts(commands, whole)):
        page.append(f"## {name}\n\n```text\n{context.command.get_help(context)}\n```\n")
    return "\n".join(page)


def _contexts(group: click.Group, parent: click.Context) -> Iterator[tuple[str, click.Context]]:
    for short, command in group.commands.items():
        context = click.Context(command, info_name=short, parent=parent)
        yield context.command_path, context
        if isinstance(command, click.Group):
            yield from _contexts(command, context)


_CLI_HEAD = """\
# The command line

Written by `make docs` from the code. stdout is the report; everything else (progress, questions,
hints) goes to stderr. Every command answers `--help`.
"""


def rules() -> str:
    """Every rule with its numbers in the benchmarks."""
    return table(
        ("rule", "what it says", "severity", "reads", *(f"CIS {version}" for version in CIS_VERSIONS)),
        (
            (
                f"`{rule.id}`",
                rule.title,
                rule.severity,
                rule.needs.replace("_", " "),
                *(rule.cis_number(version) or "none" for version in CIS_VERSIONS),
            )
            for rule, _ in registry().values()
        ),
    )


def rooms() -> str:
    """Every room: what it holds and what it imports."""

    def mark(name: str) -> str:
        return f"`{name}`" + (" *pure*" if name in PURE else "")

    return table(
        ("room", "holds", "imports"),
        (
            (
                mark(name),
                room.holds,
                ", ".join(f"`{other}`" for other in sorted(room.imports)) or "nothing of ours",
            )
            for name, room in ROOMS.items()
            if name != "__init__"
        ),
    )


_ADR_HEAD = """\
# Architecture decision records

Written by `make docs` from the records' own titles. A new record takes the next number, the sections *Context*,
*Decision* and *Consequence*, and a line `Status: accepted · Date: YYYY-MM-DD`. A record that no longer holds is kept,
with `Status: superseded by NNNN`. Number 0019 was never used.

"""
_ADR = re.compile(r"# (\d{4}) · (.+)\n\nStatus: (.+) · Date: (\d{4}-\d{2}-\d{2})\n")


def adr_index(folder: Path = ROOT / "docs" / "adr") -> str:
    """The index of the decision records; raises ValueError for a record without title, status or date."""
    rows = []
    for path in sorted(folder.glob("[0-9]*.md")):
        match = _ADR.match(path.read_text(encoding="utf-8"))
        if match is None or not path.name.startswith(match[1]):
            raise ValueError(f"{path.name} lacks its title, status or date")
        number, title, status, date = match.groups()
        rows.append((number, f"[{title}]({path.name})", status, date))
    return _ADR_HEAD + table(("no.", "decision", "status", "date"), rows)


PARTS: dict[str, Callable[[], str]] = {
    "destinations": destinations,
    "holds": holds,
    "guards": guards,
    "rules": rules,
    "rooms": rooms,
}
PAGES: dict[str, Callable[[], str]] = {"docs/reference/cli.md": cli, "docs/adr/README.md": adr_index}


def wanted(root: Path = ROOT) -> dict[Path, str]:
    """Every page that has generated parts, as it should be; raises KeyError for a part nobody makes."""
    pages = {root / name: page() for name, page in PAGES.items()}
    pages |= {root / "man" / name: page for name, page in man_pages().items()}
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if path not in pages and _PART.search(text):
            pages[path] = _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", text)
    return pages


def main(arguments: list[str]) -> int:
    """Write, or check and return 1 where a page is out of date."""
    stale = [
        (path, text)
        for path, text in wanted().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
