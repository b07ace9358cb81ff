"""`sparekey.toml` as a frozen `Policy`: thresholds, exemptions and who manages which keys.

An unknown field is an error; a policy that others may write is refused by whoever opens the file.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec

from sparekey.errors import BadInputError
from sparekey.model import Value

Text = Annotated[str, msgspec.Meta(min_length=1)]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHORTEST_QUIET = timedelta(days=31)


class PolicyError(BadInputError):
    """The policy cannot be used as it is written."""

    default_hint = "docs/policy.md lists every field; nothing was read from AWS."


class Span(timedelta):
    """A length of time that is written "90d", "12h", "30m" or "10s"."""

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Read one; raises ValueError."""
        match = re.fullmatch(r"(\d{1,6})([smhd])", text)
        if not match:
            raise ValueError(f'{text!r} is not a duration such as "90d", "12h" or "30m"')
        return cls(**{_UNITS[match[2]]: int(match[1])})

    def __str__(self) -> str:
        seconds = int(self.total_seconds())
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
            if seconds and seconds % size == 0:
                return f"{seconds // size}{unit}"
        return f"{seconds}s"


class Scope(Value, frozen=True, kw_only=True):
    """Whom an entry speaks for: patterns of user and account, shell-style (`*`, `?`, `[…]`).

    With `match = "regex"` both are regular expressions, found anywhere in the name unless they are anchored;
    the account `*` is any, all the same.
    """

    user: Text
    account: Text = "*"
    match: Literal["glob", "regex"] = "glob"

    def covers(self, account: str, user: str) -> bool:
        """True where both patterns match; names are case-sensitive."""
        if self.match == "regex":
            mine = self.account == "*" or re.search(self.account, account)
            return bool(mine and re.search(self.user, user))
        return fnmatchcase(user, self.user) and fnmatchcase(account, self.account)


class Exemption(Scope, frozen=True, kw_only=True):
    """A user who may break a rule until the end of a day (UTC), with the owner who answers for it.

    Whom an entry of `unless` covers is not exempt by this one.
    """

    owner: Text
    reason: Text
    expires: date
    rule: str = "two-active-keys"
    unless: tuple[Scope, ...] = ()

    def covers(self, account: str, user: str) -> bool:
        """True where its own patterns match and none of `unless` does."""
        return super().covers(account, user) and not any(entry.covers(account, user) for entry in self.unless)

    def expired(self, now: datetime) -> bool:
        """True from the day after `expires` on."""
        return now.date() > self.expires


class Rotator(Scope, frozen=True, kw_only=True):
    """Users whose keys a rotator manages that needs two of them (Vault, Infisical, …)."""

    tool: Text


class MutelistFile(Value, frozen=True, kw_only=True):
    """A Prowler mutelist to be read as exemptions; its path is taken from where the policy lies.

    A mutelist knows no end and no owner: both are said here.
    """

    file: str
    owner: str
    until: date


class Policy(Value, frozen=True, kw_only=True):
    """Thresholds and exceptions that every decision is made by."""

    max_key_age: Span = Span(days=90)
    settle: Span = Span(days=7)
    quiet: Span = Span(days=45)
    cutover_quiet: Span = Span(days=7)
    exempt: tuple[Exemption, ...] = ()
    rotators: tuple[Rotator, ...] = ()
    mutelist: tuple[MutelistFile, ...] = ()
    watch: Span = Span(days=8)
    require_probe: bool = False
    windows: tuple[str, ...] = ()
    # Each is read by its kind, where `sparekey.probes` is at hand.
    probes: tuple[Mapping[str, Any], ...] = ()

    def exemption(self, rule: str, account: str, user: str, now: datetime) -> Exemption | None:
        """The exemption that covers this user now, the longest-lived first."""
        found = [entry for entry in self._covering(rule, account, user) if not entry.expired(now)]
        return max(found, key=lambda entry: entry.expires, default=None)

    def expired_exemption(self, rule: str, account: str, user: str, now: datetime) -> Exemption | None:
        """The latest exemption that covered this user and no longer does; None while one still covers."""
        if self.exemption(rule, account, user, now):
            return None
        return max(self._covering(rule, account, user), key=lambda entry: entry.expires, default=None)

    def rotator(self, account: str, user: str) -> Rotator | None:
        """The rotator that manages this user's keys."""
        return next((entry for entry in self.rotators if entry.covers(account, user)), None)

    def probed(self, account: str, user: str) -> bool:
        """True where a probe speaks for this user: something would notice a breakage."""
        scopes = (
            {name: probe[name] for name in Scope.__struct_fields__ if name in probe} for probe in self.probes
        )
        return any(msgspec.convert(scope, Scope).covers(account, user) for scope in scopes)

    def _covering(self, rule: str, account: str, user: str) -> Iterable[Exemption]:
        return (entry for entry in self.exempt if entry.rule == rule and entry.covers(account, user))

    @property
    def digest(self) -> str:
        """SHA-256 over the policy's content, in hex."""
        content = msgspec.json.encode(msgspec.to_builtins(self, enc_hook=str), order="sorted")
        return hashlib.sha256(content).hexdigest()


def parse_policy(text: str) -> Policy:
    """Read a policy from TOML; raises PolicyError with the field that is wrong."""
    try:
        policy = msgspec.convert(tomllib.loads(text), Policy, dec_hook=decode_span)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"the policy is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise PolicyError(f"the policy has a wrong field: {error}") from error
    _check(policy)
    return policy


def decode_policy(plain: Mapping[str, Any]) -> Policy:
    """A policy from the plain values that a run's ledger keeps it as; raises PolicyError."""
    try:
        return msgspec.convert(plain, Policy, dec_hook=decode_span)
    except msgspec.ValidationError as error:
        raise PolicyError(f"the policy on file has a wrong field: {error}") from error


def decode_span(kind: type, value: Any) -> Any:
    """How msgspec reads a `Span`; for every part of the policy that is read elsewhere, too."""
    if kind is Span and isinstance(value, str):
        return Span.parse(value)
    raise ValueError(f'expected a duration such as "90d", got {value!r}')  # msgspec adds the field


def _check(policy: Policy) -> None:
    if policy.quiet <= _SHORTEST_QUIET:
        raise PolicyError(
            f"quiet = {str(policy.quiet)!r} is too short to see a monthly job",
            "Use at least 32d; the default is 45d.",
        )
    for name in ("max_key_age", "settle", "cutover_quiet"):
        if getattr(policy, name) <= timedelta(0):
            raise PolicyError(f"{name} must be longer than nothing")
    for entry in _scopes(policy):
        if entry.match == "regex":
            check_regex(entry.user)
            if entry.account != "*":
                check_regex(entry.account)


def _scopes(policy: Policy) -> Iterator[Scope]:
    yield from policy.rotators
    for entry in policy.exempt:
        yield entry
        yield from entry.unless


def check_regex(pattern: str) -> None:
    """Raise PolicyError for what is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise PolicyError(f"{pattern!r} is no regular expression: {error}") from error
