"""Files that people write (TOML, YAML), read with bounds: size, depth, and what aliases come to."""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparekey.errors import BadInputError
from sparekey.patterns import has_deep_key

_MAX_BYTES = 4 * 1024 * 1024  # bytes
_MAX_DEPTH = 32
_MAX_NODES = 200_000
_MAX_SCALAR = 8192  # characters of one value: PyYAML takes quadratic time for `1:1:1:…`
_BOM, _UTF_16 = "\ufeff", (b"\xff\xfe", b"\xfe\xff")


class DocumentError(BadInputError):
    """The content of a file cannot be used; the message begins with what is wrong, without a subject."""


def read_text(path: Path, check: Callable[[os.stat_result], None] = lambda _status: None) -> str:
    """The text of a file without its byte order mark; raises OSError and DocumentError.

    `check` gets the status of the file that is read, before anything of it is.
    """
    with path.open("rb") as file:
        check(os.fstat(file.fileno()))
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DocumentError(
            f"is larger than {_MAX_BYTES // 1024**2} MiB", "Split it, or remove what it repeats."
        )
    if content.startswith(_UTF_16):
        raise DocumentError("is encoded as UTF-16", "Save it as UTF-8.")
    try:
        return content.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 text: byte {error.start + 1:,} is {content[error.start]:#04x}"
        raise DocumentError(why, "Save it as UTF-8.") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML document; raises DocumentError."""
    if has_deep_key(text):
        raise DocumentError("has a key of more than 32 parts")
    try:
        return tomllib.loads(text)
    except (ArithmeticError, RecursionError, ValueError) as error:  # ValueError: TOMLDecodeError, odd times
        raise DocumentError(f"is not TOML: {error}") from error


def parse_yaml(text: str) -> Any:
    """The value of a YAML document; raises DocumentError.

    An alias counts as everything it stands for: a few lines of aliases can stand for billions of values.
    """
    import yaml  # noqa: PLC0415  # most commands read none

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_size(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)  # noqa: S506  # both are the safe ones
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or (str(error).splitlines() or ["unreadable"])[0]
        raise DocumentError(f"is not YAML{where}: {problem}") from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # PyYAML lets these through for odd scalars: a date in month 13, a number of 5,000 digits, `!!int ""`.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DocumentError(f"has a value that YAML cannot read: {reason[:200]}") from error


def _check_size(events: Any) -> None:
    """Raise DocumentError for a document that is deep, or large once its aliases are followed."""
    import yaml  # noqa: PLC0415

    sizes: dict[str | None, int] = {}
    open_nodes: list[
        tuple[str | None, int]
    ] = []  # the anchor of each collection, and the count where it began
    count = 0
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, begin = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - begin
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise DocumentError(f"has an alias *{event.anchor} of something that contains it")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            count += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, count - 1))
            elif event.anchor:
                sizes[event.anchor] = 1
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_SCALAR:
                raise DocumentError(f"has a value of more than {_MAX_SCALAR:,} characters")
        if len(open_nodes) > _MAX_DEPTH:
            raise DocumentError(f"is nested more than {_MAX_DEPTH} levels deep")
        if count > _MAX_NODES:
            raise DocumentError(f"has more than {_MAX_NODES:,} values, aliases followed")
