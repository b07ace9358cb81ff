"""`sparekey.toml` as a frozen `Policy`: thresholds, exemptions and who manages which keys.

An unknown field is an error; a policy file that others may write is refused where it is opened.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from sparekey import patterns
from sparekey.errors import BadInputError
from sparekey.formatting import clean_line
from sparekey.model import Value

T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(min_length=1)]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHORTEST_QUIET = timedelta(days=31)
_LONGEST = timedelta(days=3650)
_LONGEST_MESSAGE = 500  # characters
_BYTE_ORDER_MARK = "\ufeff"
_AT_PLACE = re.compile(r"(?P<problem>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")


class PolicyError(BadInputError):
    """The policy cannot be used as it is written."""

    default_hint = "docs/reference/policy.md lists every field; nothing was read from AWS."


class FieldError(PolicyError):
    """One field cannot be used; the message names the field, and `within` the table and the file."""

    def __init__(self, field: str, problem: str, hint: str = "") -> None:
        message = f"field `{field}`: {problem}" if field else problem
        super().__init__(clean_line(message, _LONGEST_MESSAGE), hint)

    def within(self, place: str) -> "FieldError":
        """The same error with a place before it: a table or a file."""
        self.message = f"{place}: {self.message}"
        self.args = (self.message,)
        return self


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
    """Whom an entry covers: patterns of user and account, shell-style (`*`, `?`, `[…]`).

    With `match = "regex"` both are regular expressions, found anywhere in the name unless they are anchored;
    the account `*` is any, all the same.
    """

    user: Text
    account: Text = "*"
    match: Literal["glob", "regex"] = "glob"

    def covers(self, account: str, user: str) -> bool:
        """True where both patterns match; names are case-sensitive."""
        if self.match == "regex":
            mine = self.account == "*" or patterns.matches(self.account, account)
            return mine and patterns.matches(self.user, user)
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


class KeyFields(Value, frozen=True, kw_only=True):
    """What a key's id and secret are called where they are stored."""

    id: Text = "AWS_ACCESS_KEY_ID"
    secret: Text = "AWS_SECRET_ACCESS_KEY"  # noqa: S105  # a field's name


class Handover(Scope, frozen=True, kw_only=True):
    """Where the secret of a user's new access key is put: a versioned store, and copies that are made from it.

    `store` and `copies` are KIND:PLACE, each read by its module in `sparekey.handover`. `region` and `role` (an ARN)
    are those of a store in AWS, where it is not in the user's account. `after` is run once the key is published,
    with only the variables that `env` names. `recipients` and `identity` (a file) are for `age:`.
    """

    store: Text
    copies: tuple[Text, ...] = ()
    fields: KeyFields = KeyFields()
    after: tuple[str, ...] = ()
    env: tuple[str, ...] = ("PATH",)
    region: str = ""
    role: str = ""
    recipients: tuple[Text, ...] = ()
    identity: str = ""


class NeverReactivate(Scope, frozen=True, kw_only=True):
    """Users whose deactivated keys sparekey never reactivates by itself; a person's undo still does."""

    reason: str = ""


class MutelistFile(Value, frozen=True, kw_only=True):
    """A Prowler mutelist to be read as exemptions; its path is taken from where the policy lies.

    A mutelist has no end and no owner: both are given here.
    """

    file: Text
    owner: Text
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
    never_reactivate: tuple[NeverReactivate, ...] = ()
    handover: tuple[Handover, ...] = ()
    rotate_before: Span = Span(days=14)
    move_within: Span = Span(days=30)
    usage_source: str = "history"
    usage_every: Span = Span(hours=6)
    # Each is read by its kind, where `sparekey.probes` is at hand.
    probes: tuple[Mapping[str, Any], ...] = ()

    def exemption(self, rule: str, account: str, user: str, now: datetime) -> Exemption | None:
        """The exemption that covers this user now, the longest-lived first."""
        valid = [entry for entry in self._covering(rule, account, user) if not entry.expired(now)]
        return max(valid, key=lambda entry: entry.expires, default=None)

    def expired_exemption(self, rule: str, account: str, user: str, now: datetime) -> Exemption | None:
        """The latest exemption that covered this user and no longer does; None while one still covers."""
        if self.exemption(rule, account, user, now):
            return None
        return max(self._covering(rule, account, user), key=lambda entry: entry.expires, default=None)

    def rotator(self, account: str, user: str) -> Rotator | None:
        """The rotator that manages this user's keys."""
        return next((entry for entry in self.rotators if entry.covers(account, user)), None)

    def never_reactivates(self, account: str, user: str) -> NeverReactivate | None:
        """The entry that forbids to reactivate this user's keys without a person; None where none does."""
        return next((entry for entry in self.never_reactivate if entry.covers(account, user)), None)

    def handover_of(self, account: str, user: str) -> Handover | None:
        """Where this user's new key is put, by the first entry that covers the user."""
        return next((entry for entry in self.handover if entry.covers(account, user)), None)

    def probed(self, account: str, user: str) -> bool:
        """True where a probe covers this user: a breakage would be detected."""
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
    """Read a policy from TOML; raises FieldError with the table and the field that is wrong."""
    policy = convert(read_toml(text), Policy)
    _check(policy)
    return policy


def read_toml(text: str) -> dict[str, Any]:
    """The plain values of a policy, as they stand in the file; raises FieldError."""
    if patterns.has_deep_key(text):
        raise FieldError("", "the policy is not TOML that sparekey reads: it has a key of more than 32 parts")
    try:
        return tomllib.loads(text.removeprefix(_BYTE_ORDER_MARK))
    except (ArithmeticError, RecursionError, ValueError) as error:  # ValueError: TOMLDecodeError, odd times
        raise FieldError("", f"the policy is not TOML: {error}") from error


def decode_policy(plain: Mapping[str, Any]) -> Policy:
    """A policy from the plain values that a run's ledger keeps it as; raises PolicyError."""
    try:
        return convert(plain, Policy)
    except FieldError as error:
        raise error.within("the policy on file") from error


def convert(content: Mapping[str, Any], kind: type[T]) -> T:
    """Plain values as a type of the policy; raises FieldError with the table and the field that is wrong."""
    try:
        return msgspec.convert(content, kind, dec_hook=decode_span)
    except msgspec.ValidationError as error:
        raise _explain(str(error), content) from error


def _explain(message: str, content: Any) -> FieldError:
    """What msgspec found, with its path as a person writes it: a table, its number and name, a field."""
    match = _AT_PLACE.fullmatch(message)
    problem, path = (match["problem"], match["path"] or "") if match else (message, "")
    places: list[str] = []
    table, field = "", ""
    for step in _STEP.finditer(path):
        if step["name"]:
            field = step["name"]
            content = content.get(field) if isinstance(content, Mapping) else None
        elif step["index"]:
            content = content[int(step["index"])] if isinstance(content, list | tuple) else None
            if isinstance(content, Mapping):
                table = f"{table}.{field}" if table else field
                places.append(table_place(table, int(step["index"]), content))
            else:
                places.append(f"entry {int(step['index']) + 1} of `{field}`")
            field = ""
    if problem == "Invalid RFC3339 encoded date":
        problem = "expected a date such as 2027-01-31"
    if named := _FIELD.fullmatch(problem):
        known = "unknown" in problem
        field = named["name"]
        problem = "there is no such field" if known else "this field is required"
    error = FieldError(field, problem)
    for place in reversed(places):
        error = error.within(place)
    return error


def table_place(table: str, index: int, content: Mapping[str, Any]) -> str:
    """One of several tables of a name, as a person finds it in the file."""
    name = next((content[key] for key in ("name", "user", "file") if isinstance(content.get(key), str)), "")
    return f"[[{table}]] {index + 1}" + (f" ({name[:60]!r})" if name else "")


def decode_span(kind: type, value: Any) -> Any:
    """How msgspec reads a `Span`; for every part of the policy that is read elsewhere, too."""
    if kind is Span and isinstance(value, str):
        return Span.parse(value)
    raise ValueError(f'expected a duration such as "90d", got {value!r}')  # msgspec adds the field


def _check(policy: Policy) -> None:
    if policy.quiet <= _SHORTEST_QUIET:
        raise FieldError(
            "quiet",
            f"{str(policy.quiet)!r} is too short to see a monthly job",
            "Use at least 32d; the default is 45d.",
        )
    for name in ("max_key_age", "settle", "cutover_quiet", "move_within", "usage_every"):
        if getattr(policy, name) <= timedelta(0):
            raise FieldError(name, "it must be longer than zero")
    if policy.rotate_before >= policy.max_key_age:
        raise FieldError(
            "rotate_before", "it must be shorter than max_key_age: every new key would be too old"
        )
    for name in ("max_key_age", "settle", "quiet", "cutover_quiet", "watch", "move_within", "usage_every"):
        if getattr(policy, name) > _LONGEST:
            raise FieldError(name, f"{str(getattr(policy, name))!r} is longer than ten years")
    for table in ("exempt", "rotators", "never_reactivate", "handover"):
        for index, entry in enumerate(getattr(policy, table)):
            place = table_place(table, index, {"user": entry.user})
            try:
                check_scope(entry)
                for number, other in enumerate(getattr(entry, "unless", ())):
                    _check_unless(other, number)
            except FieldError as error:
                raise error.within(place) from error


def _check_unless(entry: Scope, index: int) -> None:
    try:
        check_scope(entry)
    except FieldError as error:
        raise error.within(table_place("exempt.unless", index, {"user": entry.user})) from error


def check_scope(entry: Scope) -> None:
    """Raise FieldError where a pattern of the entry is none."""
    if entry.match == "regex":
        check_regex(entry.user, "user")
        if entry.account != "*":
            check_regex(entry.account, "account")


def check_regex(pattern: str, field: str) -> None:
    """Raise FieldError for what is no pattern that can be searched with."""
    try:
        patterns.compiled(pattern)
    except patterns.PatternError as error:
        raise FieldError(field, error.message, error.hint) from error
