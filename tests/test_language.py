"""Retired words are in nothing that people read: help, messages, pages, docs, docstrings and comments.

The replacements stand beside them; `docs/adr/` keeps the words of its time. And what a docstring names in
backticks is in the code below it: a name that was changed is not left behind in prose.
"""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = {
    r"told(?! apart)": "report, record, notify",
    r"tells?(?! apart)": "show, report",
    r"carr(y|ies|ied|ying) (out|runs?|a plan|an account)": "execute",
    r"stumbl\w+": "fail",
    r"speaks? (for|of|against)|spoken for": "cover, concern",
    r"may go|to go without": "can be deactivated",
    r"goes( on)?": "is deactivated, continues",
    r"stays?|stayed": "is kept, is left",
    r"begun": "started",
    r"the way back|puts? back|put back": "rollback, undo, reactivate",
    r"red|green": "unhealthy, healthy",
    r"looks? after|looked after": "monitor, supervise",
    r"whoever": "name the person, or write in the passive",
    r"anew": "again",
    r"released by:": "To release:",
    r"reverse (it|a run) by hand": "revert manually",
    r"\d+d old|not used in": "45 days old, not used for 45 days",
}
WORDS = re.compile("|".join(rf"\b(?:{word})\b" for word in RETIRED), re.IGNORECASE)
# A word of a format, a field or a colour is not prose.
ALLOWED = re.compile(
    r"`[^`]*`|\[[^\]]*\]\([^)]*\)|bold red|style=\S+|<[^>]*>|&[a-z]+;|goes to std(?:out|err)|goes (?:dark|wrong)"
)
# Stored names of an event's fields and of a table's column, read by installations that exist.
STORED = {"green", "stumbled", "told", "red", "carry"}


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that people read, with their numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in STORED:
            for line in node.value.splitlines():
                yield node.lineno, line
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


FILES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "adr"),
    *sorted((ROOT / "src").rglob("*.py")),
    *sorted((ROOT / "src").rglob("*.html")),
    *sorted((ROOT / "src").rglob("*.jinja")),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_retired_word_is_read(path: Path) -> None:
    found = [
        f"{number}: {match[0]!r} in {line.strip()[:100]!r}"
        for number, line in prose_of(path)
        for match in WORDS.finditer(ALLOWED.sub(" ", line))
    ]
    assert found == []


def test_each_retired_word_is_found_where_it_stands() -> None:
    for result in ("1 key may go", "AKIA1 stays", "no probe speaks for it", "the run goes on", "45d old"):
        assert WORDS.search(ALLOWED.sub(" ", result)), result
    assert not WORDS.search(ALLOWED.sub(" ", "the field `green` of an alarm"))


# Names outside of a module's own code: commands, AWS's fields, attributes of Python's own objects.
ELSEWHERE = {"__path__", "apply", "delete", "history", "last_rotated"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT / "src"))
)
def test_what_a_docstring_names_is_in_the_code(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    code = re.sub(r'"""[\s\S]*?"""', "", source)
    documented = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    unknown = [
        (node.name, name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented)
        for name in re.findall(r"`([a-z_]\w*)`", ast.get_docstring(node) or "")
        if name not in ELSEWHERE and not re.search(rf"\b{name}\b", code)
    ]
    assert unknown == []
