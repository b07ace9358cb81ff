"""Regular expressions for foreign text, in RE2's syntax: a search takes time linear in the text; pure.

https://github.com/google/re2/wiki/Syntax

Python's `re` can take exponential time, and nothing can end it: it holds the interpreter, signals included. RE2
lets other threads run while it searches. What it lacks (look-around, backreferences) is refused, with the name of
the construct; where both accept a construct and mean different things, Python's meaning holds.
"""

import re
from functools import lru_cache
from typing import Any

import re2

from sparekey.errors import BadInputError

_LONGEST = 4096  # characters
# Instructions of the compiled program: the time for a text is at worst its length times this.
_LARGEST = 10_000
LARGEST_FOR_LONG_TEXT = 2000
_MEMORY = 4 * 1024 * 1024  # bytes for each pattern, as RE2 counts them

_LACKING = {
    r"\\[1-9]": "a backreference",
    r"\(\?P=": "a backreference",
    r"\(\?=|\(\?!": "look-ahead",
    r"\(\?<=|\(\?<!": "look-behind",
    r"\(\?\(": "a conditional group",
    r"\(\?>": "an atomic group",
    r"\(\?#": "a comment",
    r"(?:[*+?]|\{\d*,?\d*\})\+": "a possessive repetition",
    r"\(\?[a-zA-Z]*x": "the flag x",
}
_NAMES = tuple(_LACKING.values())
_TOKEN = re.compile(
    "|".join(f"({lacking})" for lacking in _LACKING)
    + r"|(?P<escape>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<upto>\{,(?=\d+\}))|(?P<end>\$)|.",
    re.DOTALL,
)
_MULTILINE = re.compile(r"\(\?[a-zA-Z]*m")
_IN_SET = re.compile(r"\\.|\[", re.DOTALL)

# A key part and its dot, so often: tomllib takes quadratic time for a dotted key.
_DEEP_KEY = r"""(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){32}"""


class PatternError(BadInputError):
    """The text is not a pattern that sparekey can search with."""

    default_hint = "Patterns are written in RE2's syntax: https://github.com/google/re2/wiki/Syntax"


def matches(pattern: str, text: str) -> bool:
    """True where the pattern matches anywhere in the text; raises PatternError."""
    return compiled(pattern).search(text.encode(errors="replace")) is not None


def size(pattern: str) -> int:
    """How many instructions the pattern compiles to; raises PatternError."""
    return int(compiled(pattern).programsize)


def has_deep_key(toml: str) -> bool:
    """True where a TOML text has a key of more than 32 parts: `a.b.c…`."""
    return matches(_DEEP_KEY, toml)


@lru_cache(maxsize=16384)
def compiled(pattern: str) -> Any:
    """A pattern made ready, for `search` in UTF-8 bytes; raises PatternError."""
    if len(pattern) > _LONGEST:
        raise PatternError(f"{pattern[:40]!r}… is longer than {_LONGEST:,} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        program = re2.compile(_translated(pattern).encode(), options)
    except UnicodeEncodeError as error:
        raise PatternError(f"{pattern!r} is not Unicode text") from error
    except re2.error as error:
        raise PatternError(f"{pattern!r} is not a regular expression: {_reason(error)}") from error
    if program.programsize > _LARGEST:
        raise PatternError(f"{pattern!r} repeats too much: searching with it would take too long")
    return program


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _translated(pattern: str) -> str:
    """The pattern as RE2 writes what Python's `re` means; raises PatternError for what RE2 lacks."""
    multiline = _MULTILINE.search(pattern) is not None

    def token(match: re.Match[str]) -> str:
        group = match.lastindex or 0
        if 0 < group <= len(_NAMES):
            raise PatternError(
                f"{pattern!r} uses {_NAMES[group - 1]}, which sparekey's patterns (RE2) do not have"
            )
        if match[0] == r"\Z":
            return r"\z"
        if match["set"]:
            # A bracket within a set is itself, not the beginning of a POSIX class.
            inner = _IN_SET.sub(lambda escape: r"\[" if escape[0] == "[" else escape[0], match[0][1:])
            return f"[{inner}"
        if match["upto"]:
            return "{0,"
        if match["end"] and not multiline:
            return r"(?:\n?\z)"  # a line break may follow
        return match[0]

    return _TOKEN.sub(token, pattern)
