"""How lengths of time, last uses, counts and foreign text are said to a person; pure."""

from datetime import datetime, timedelta

from sparekey.model import AccessKey


def span(value: timedelta) -> str:
    """A length of time in its natural unit, as a person says it: "412 d", "5 h", "12 min"."""
    minutes = max(0, int(value.total_seconds() // 60))
    if minutes >= 48 * 60:
        return f"{minutes // 1440} d"
    return f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"


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


_STATES = {
    "applied": "deactivated, not yet read back",
    "confirmed": "deactivated",
    "in_doubt": "in doubt",
    "rolled_back": "rolled back",
    "rollback_failed": "ROLLBACK FAILED, still inactive",
    "already_inactive": "was inactive already",
    "settled": "deactivated, settled",
    "unwatched": "deactivated, unwatched",
    "watching": "deactivated, watched",
}


def step_state(state: str) -> str:
    """What became of a key, as a person says it."""
    return _STATES.get(state, state)


def clean(text: str) -> str:
    """Text with everything made visible that could move a terminal's cursor or hide other text."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text)
