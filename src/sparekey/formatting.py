"""Lengths of time, times, last uses and counts as text for people; foreign text made harmless. Pure."""

import re
from datetime import datetime, timedelta

from sparekey.model import AccessKey


def span(value: timedelta) -> str:
    """A length of time in whole units, rounded down: "412 days", "5 h", "12 min"; below a minute "30 s"."""
    seconds = max(0, int(value.total_seconds()))
    minutes = seconds // 60
    if minutes >= 48 * 60:
        return f"{minutes // 1440} days"
    if 0 < seconds < 60:
        return f"{seconds} s"
    return f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"


def moment(at: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def moment_with_seconds(at: datetime) -> str:
    """A time to the second, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def rfc3339(at: datetime) -> str:
    """A time to the second in UTC as machine-readable formats have it: "2026-11-25T22:11:03Z"."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def key_age(key: AccessKey, now: datetime) -> str:
    """How old a key is; of a key without an id the credential report has only the time of its last change."""
    if key.created is None:
        return "age not read"
    return f"{'' if key.id else 'at least '}{span(now - key.created)} old"


def last_use(key: AccessKey, now: datetime) -> str:
    """When, for what and where a key was last used, by IAM."""
    used = key.last_used
    match used.state:
        case "used" if used.at is not None:
            where = ", ".join(part for part in (used.service or "unknown service", used.region) if part)
            return f"used {span(now - used.at)} ago ({where})"
        case "unreadable":
            return f"last use unreadable: {used.why}"
        case "not_read":
            return "last use not read"
        case _:
            return "never used"


def number(count: int) -> str:
    """A count with thousands marked."""
    return f"{count:,}"


def plural(count: int, singular: str, plural_form: str = "") -> str:
    """A count and its noun."""
    return f"{number(count)} {singular if count == 1 else plural_form or singular + 's'}"


def clean(text: str) -> str:
    """Text with everything made visible that could move a terminal's cursor or hide other text."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text)


# What a terminal or a reader acts on beyond ASCII's own controls: DEL, C1 controls, separators of lines, and
# Unicode's format characters (category Cf: marks of direction, zero-width characters, tags); and halves of
# surrogate pairs, which cannot be written.
_ACTED_ON = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\ud800-\udfff]"
)


def escaped(text: str) -> str:
    r"""Text with each such character as `\uXXXX`, by surrogate pairs where JSON needs two.

    A JSON document is still the same document: these characters stand in its strings only.
    """
    return _ACTED_ON.sub(lambda match: _code_points(match[0]), text)


def _code_points(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def clean_line(text: str, longest: int) -> str:
    """Foreign text as one line of at most `longest` characters, without control or hidden characters."""
    # Cut twice: a text of many megabytes is not worth cleaning to its end.
    words = "".join(char if char.isprintable() else " " for char in text[: 8 * longest]).split()
    line = " ".join(words)
    return line if len(line) <= longest and len(text) <= 8 * longest else f"{line[: longest - 1]}…"
