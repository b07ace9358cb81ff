"""How ages, times and last uses are said to a person."""

from datetime import datetime

from sparekey.model import AccessKey, span


def moment(at: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def key_age(key: AccessKey, now: datetime) -> str:
    """How old a key is."""
    return f"{span(now - key.created)} old" if key.created else "age not read"


def last_use(key: AccessKey, now: datetime) -> str:
    """When, for what and where a key was last used, as IAM says."""
    used = key.last_used
    match used.state:
        case "used" if used.at is not None:
            return f"used {span(now - used.at)} ago ({used.service}, {used.region})"
        case "unreadable":
            return f"last use unreadable: {used.why}"
        case "not_read":
            return "last use not read"
        case _:
            return "never used"


def number(count: int) -> str:
    """A count with thousands marked."""
    return f"{count:,}"


def plural(count: int, one: str, many: str = "") -> str:
    """A count and its noun."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def clean(text: str) -> str:
    """Text with everything made visible that could move a terminal's cursor or hide other text."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text)
