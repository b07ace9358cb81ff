"""A scenario: the practice company, its past and its faults, as they are written in TOML."""

import re
import tomllib
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from sparekey.sandbox.errors import SandboxError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(timedelta):
    """A length of time that is written "400d", "12h", "30m" or "10s"."""

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read one; raises SandboxError."""
        match = re.fullmatch(r"(\d{1,6})([smhd])", text)
        if not match:
            raise SandboxError(
                f"{text!r} is not a length of time.",
                'Write a whole number and s, m, h or d: "400d", "12h", "30m".',
            )
        return cls(**{_UNITS[match[2]]: int(match[1])})


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One TOML table."""


class UsedTable(_Table, frozen=True, kw_only=True):
    """A last use that IAM reports of a key."""

    ago: Duration
    service: str = "s3"
    region: str = "us-east-1"


class KeyTable(_Table, frozen=True, kw_only=True):
    """One access key; `changed` is when its status was last set (the report's `last_rotated`)."""

    age: Duration
    id: str = ""
    status: Literal["Active", "Inactive", "Expired"] = "Active"
    used: UsedTable | None = None
    changed: Duration | None = None


class UserTable(_Table, frozen=True, kw_only=True):
    """One IAM user; without `allow` it may do everything that no fault denies.

    `policies` are the names of AWS managed policies that are attached to it, such as those of a quarantine.
    """

    name: str
    path: str = "/"
    age: Duration | None = None
    console: bool = False
    allow: tuple[str, ...] | None = None
    policies: tuple[str, ...] = ()
    key: tuple[KeyTable, ...] = ()


class ManyTable(_Table, frozen=True, kw_only=True):
    """A crowd of alike users: `prefix` and a number from 1."""

    prefix: str
    count: int
    path: str = "/"
    key: tuple[KeyTable, ...] = ()


class RoleTable(_Table, frozen=True, kw_only=True):
    """One role; `trust` names accounts or ARNs ("*" is anyone)."""

    name: str
    trust: tuple[str, ...] = ("*",)
    path: str = "/"
    external_id: str = ""
    max_session: Duration = Duration(hours=1)
    allow: tuple[str, ...] | None = None


class AppTable(_Table, frozen=True, kw_only=True):
    """An application that has been calling AWS with a key, directly or through sessions that it mints.

    `from` and `to` are ages: from 90 days ago to now unless said otherwise.
    """

    name: str
    user: str
    calls: tuple[str, ...]
    every: Duration
    key: int = 1
    agent: str = "Boto3/1.34.11 md/Botocore#1.34.11 ua/2.0 os/linux#5.15.0 lang/python#3.11.4"
    source: str = "198.51.100.10"
    region: str = "us-east-1"
    start: Duration = msgspec.field(default=Duration(days=90), name="from")
    end: Duration = msgspec.field(default=Duration(0), name="to")
    via: Literal["key", "GetSessionToken", "GetFederationToken", "AssumeRole"] = "key"
    role: str = ""
    external_id: str = ""
    session: Duration = Duration(hours=1)
    error: str = ""


class SecretTable(_Table, frozen=True, kw_only=True):
    """A secret with a user's key, as applications read it: in Secrets Manager, or as a parameter of SSM."""

    name: str
    user: str
    key: int = 1
    store: Literal["secretsmanager", "ssm"] = "secretsmanager"
    region: str = "us-east-1"
    fields: dict[str, str] = {}


class AccountTable(_Table, frozen=True, kw_only=True):
    """One AWS account."""

    id: str
    name: str = ""
    alias: str = ""
    status: Literal["ACTIVE", "SUSPENDED", "PENDING_CLOSURE", "PENDING_ACTIVATION", "CLOSED"] = "ACTIVE"
    unit: str = ""
    tags: dict[str, str] = {}
    root_key: tuple[KeyTable, ...] = ()
    user: tuple[UserTable, ...] = ()
    many: tuple[ManyTable, ...] = ()
    role: tuple[RoleTable, ...] = ()
    app: tuple[AppTable, ...] = ()
    secret: tuple[SecretTable, ...] = ()


class OrganizationTable(_Table, frozen=True, kw_only=True):
    """The organization; `units` are paths such as "Workloads/Prod"."""

    management: str
    id: str = "o-practice01"
    units: tuple[str, ...] = ()
    delegated: tuple[str, ...] = ()
    root_access: bool = True
    empty_page: bool = False


class CallerTable(_Table, frozen=True, kw_only=True):
    """Whose key the sandbox hands out to the person who started it."""

    account: str
    user: str
    key: int = 1


class ReportTable(_Table, frozen=True, kw_only=True):
    """How the credential report behaves."""

    takes: Duration = Duration(seconds=1)
    further_keys: bool = False
    offset_dates: bool = False


class FaultScope(_Table, frozen=True, kw_only=True):
    """Which calls a fault strikes, by patterns with `*`.

    `action` is such as "iam:ListUsers", `user` the calling user or role, `target` the user asked about.
    """

    account: str = "*"
    action: str = "*"
    user: str = "*"
    target: str = "*"
    region: str = "*"


class Stale(FaultScope, frozen=True, kw_only=True, tag="stale", tag_field="kind"):
    """Reads of IAM show what was true `seconds` ago; `flapping` replicas answer now fresh, now stale."""

    seconds: float
    flapping: bool = False


class SlowAuth(FaultScope, frozen=True, kw_only=True, tag="slow-auth", tag_field="kind"):
    """A change of a key's status takes `seconds` to reach the place where requests are checked."""

    seconds: float


class SlowNewKeys(FaultScope, frozen=True, kw_only=True, tag="slow-new-keys", tag_field="kind"):
    """A new key is usable after `seconds`; until half as long again has passed it flaps, in each region by itself."""

    seconds: float


class Throttle(FaultScope, frozen=True, kw_only=True, tag="throttle", tag_field="kind"):
    """A token bucket per account and action: `rate` requests a second, `burst` at once."""

    rate: float
    burst: int = 1


class Deny(FaultScope, frozen=True, kw_only=True, tag="deny", tag_field="kind"):
    """AccessDenied, in AWS's words."""


class Fail(FaultScope, frozen=True, kw_only=True, tag="error", tag_field="kind"):
    """An error answer, `times` in all or in a `share` of the calls, before the work is done or `after` it."""

    code: str = "ServiceFailure"
    status: int = 500
    message: str = "The request processing has failed because of an unknown error, exception or failure."
    times: int | None = None
    share: float = 1.0
    after: bool = False


class ShortPages(FaultScope, frozen=True, kw_only=True, tag="short-pages", tag_field="kind"):
    """Lists stop after `size` entries with IsTruncated=true, however many were asked for."""

    size: int = 1


class Ignored(FaultScope, frozen=True, kw_only=True, tag="ignored-update", tag_field="kind"):
    """UpdateAccessKey answers 200 and nothing ever changes, `times` in all."""

    times: int | None = None


class Latency(FaultScope, frozen=True, kw_only=True, tag="latency", tag_field="kind"):
    """Every answer takes `seconds` more."""

    seconds: float


class LateHistory(FaultScope, frozen=True, kw_only=True, tag="late-history", tag_field="kind"):
    """LookupEvents does not show the last `seconds`."""

    seconds: float


class LateLastUsed(FaultScope, frozen=True, kw_only=True, tag="late-last-used", tag_field="kind"):
    """GetAccessKeyLastUsed does not show a use of the last `seconds`."""

    seconds: float


Fault = (
    Stale
    | SlowAuth
    | SlowNewKeys
    | Throttle
    | Deny
    | Fail
    | ShortPages
    | Ignored
    | Latency
    | LateHistory
    | LateLastUsed
)


class Scenario(_Table, frozen=True, kw_only=True):
    """The whole of a scenario file."""

    account: tuple[AccountTable, ...]
    seed: str = "practice"
    partition: Literal["aws", "aws-cn", "aws-us-gov", "aws-eusc"] = "aws"
    regions: tuple[str, ...] = ("us-east-1", "eu-central-1")
    regions_off: tuple[str, ...] = ("me-south-1",)
    lookup_rate: float | None = None
    caller: CallerTable | None = None
    organization: OrganizationTable | None = None
    report: ReportTable = ReportTable()
    fault: tuple[Fault, ...] = ()


def parse_scenario(text: str, source: str = "the scenario") -> Scenario:
    """Read a scenario from TOML; raises SandboxError that names the field."""
    try:
        scenario = msgspec.convert(tomllib.loads(text), Scenario, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SandboxError(
            f"{source} has a wrong field: {error}.",
            "docs/reference/sandbox.md lists every field of a scenario.",
        ) from error
    except (ArithmeticError, RecursionError, ValueError) as error:  # ValueError: TOMLDecodeError, odd times
        raise SandboxError(
            f"{source} is not TOML: {error}.", "docs/reference/sandbox.md shows a scenario."
        ) from error
    _check(scenario, source)
    return scenario


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file; raises SandboxError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SandboxError(
            f"the scenario {path} cannot be read: {error}.",
            "Name a TOML file; docs/reference/sandbox.md shows one.",
        ) from error
    return parse_scenario(text, str(path))


def demo_company() -> Scenario:
    """The small company that comes with the package."""
    text = resources.files("sparekey.sandbox").joinpath("company.toml").read_text(encoding="utf-8")
    return parse_scenario(text, "company.toml")


def _decode(kind: type, value: Any) -> Any:
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise msgspec.ValidationError(f'expected a length of time such as "400d", got {value!r}')


def _check(scenario: Scenario, source: str) -> None:
    ids = [account.id for account in scenario.account]
    wrong = next((id_ for id_ in ids if not re.fullmatch(r"\d{12}", id_)), None)
    if wrong is not None:
        raise SandboxError(f"{source}: {wrong!r} is not an account id.", "Account ids have twelve digits.")
    if not ids or len(set(ids)) != len(ids):
        raise SandboxError(f"{source} needs at least one [[account]], each with an id of its own.")
    named = [scenario.caller.account] if scenario.caller else []
    if scenario.organization:
        named += [scenario.organization.management, *scenario.organization.delegated]
    for id_ in named:
        if id_ not in ids:
            raise SandboxError(f"{source} names the account {id_}, which it does not describe.")
    if len(scenario.regions) == 0:
        raise SandboxError(f"{source} needs at least one region.")
