"""Which accounts are read, and with whose credentials each is entered.

They come from AWS Organizations, or from a file: our TOML, or c7n-org's accounts.yml.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
from botocore.credentials import ReadOnlyCredentials

from sparekey.aws.client import AwsClient, Credentials, Principal
from sparekey.aws.credential_chain import ProfileStore
from sparekey.aws.errors import (
    AwsError,
    DeniedError,
    FailedServiceError,
    MalformedResponseError,
    NotEnteredError,
    ThrottledError,
    UnreachableError,
)
from sparekey.aws.paging import PageTokens
from sparekey.aws.signers import SigningIdentities
from sparekey.clock import Clock
from sparekey.documents import DocumentError, parse_toml, parse_yaml, read_text
from sparekey.errors import BadInputError
from sparekey.model import SkippedAccount, Value

_ACTIVE = "ACTIVE"
_SESSION = "sparekey"
_RENEW_BEFORE = timedelta(minutes=5)  # before a session ends, another is taken
_RETRY_AFTER = timedelta(minutes=1)
_TEMPORARY_ERRORS = (MalformedResponseError, FailedServiceError, ThrottledError, UnreachableError)

_FORMS = "Write it as TOML, or name a c7n-org accounts.yml."

Call = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class Target(Value, frozen=True):
    """One account to be read.

    `roles` are assumed one from the other, the last one in the account; without roles or a profile the base
    credentials are used. `session_duration` is in seconds, 0 for AWS's default.
    """

    id: str
    name: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    roles: tuple[str, ...] = ()
    external_id: str = ""
    session_duration: int = 0
    profile: str = ""


class SelectedAccounts(Value, frozen=True):
    """The accounts to be read, and those that are not, each sorted by id."""

    targets: tuple[Target, ...]
    skipped: tuple[SkippedAccount, ...] = ()


class AccountAccess(Value, frozen=True, kw_only=True):
    """How other accounts are entered; there is no default role, since the usual one may do everything."""

    role: str = ""
    external_id: str = ""
    session_duration: int = 0

    def arn(self, partition: str, account: str) -> str:
        """The role's ARN in one account."""
        return f"arn:{partition}:iam::{account}:role/{self.role}"

    def target(self, partition: str, account: str) -> Target:
        """One account, entered by the role."""
        check_access(self)
        roles = (self.arn(partition, account),)
        return Target(account, "", (), roles, self.external_id, self.session_duration)


def check_access(entry: AccountAccess) -> AccountAccess:
    """Raise BadInputError for what AWS would refuse in every account."""
    if entry.role and not re.fullmatch(r"[\w+=,.@-]+(/[\w+=,.@-]+)*", entry.role, re.ASCII):
        raise BadInputError(
            f"{entry.role!r} is no role name", "Give the name, with its path if any: SparekeyAudit."
        )
    if entry.external_id and not re.fullmatch(r"[\w+=,.@:/-]{2,1224}", entry.external_id, re.ASCII):
        raise BadInputError(
            "the external id is not one that AWS accepts", "2 to 1224 of A-Z a-z 0-9 +=,.@:/-_"
        )
    if entry.session_duration and not 900 <= entry.session_duration <= 43200:
        raise BadInputError("the session duration must be from 15 minutes to 12 hours", 'Such as "1h".')
    return entry


# --- AWS Organizations ---


def organization_accounts(
    call: Call,
    own: str,
    partition: str,
    *,
    units: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    entry: AccountAccess,
) -> SelectedAccounts:
    """The organization's accounts, or those in the named units and below; raises AwsError and BadInputError.

    `include` and `exclude` name accounts by id, name (`*` matches anything) or `tag:KEY=VALUE`.
    Source: https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html
    """
    check_access(entry)
    listed = _in_units(call, units) if units else _pages(call, "ListAccounts", {}, "Accounts")
    by_id = {str(account["Id"]): account for account in listed}
    by_tag = any(pattern.startswith("tag:") for pattern in (*include, *exclude))
    targets, skipped = [], []
    for account_id, account in by_id.items():
        name, state = str(account.get("Name", "")), _state(account)
        if state != _ACTIVE:
            skipped.append(SkippedAccount(account_id, name, state))
            continue
        tags = _tags(call, account_id) if by_tag else ()
        targets.append(Target(account_id, name, tags))
    chosen = select_accounts(targets, include, exclude)
    return SelectedAccounts(
        tuple(_with_access(entry, target, own, partition) for target in chosen),
        tuple(sorted(skipped, key=lambda account: account.id)),
    )


def _with_access(entry: AccountAccess, target: Target, own: str, partition: str) -> Target:
    if target.id == own:
        return target
    if not entry.role:
        raise BadInputError(
            f"no role is named by which account {target.id} can be entered",
            "Give --role NAME; `sparekey iam-policy stackset` prints a template of roles that may do no more "
            "than sparekey needs.",
        )
    return msgspec.structs.replace(
        target,
        roles=(entry.arn(partition, target.id),),
        external_id=entry.external_id,
        session_duration=entry.session_duration,
    )


def _state(account: Mapping[str, Any]) -> str:
    return str(account.get("State") or account.get("Status") or "unknown")


def _in_units(call: Call, units: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    waiting, seen = list(units), set()
    while waiting:
        unit = waiting.pop()
        if unit in seen:
            continue
        seen.add(unit)
        yield from _pages(call, "ListAccountsForParent", {"ParentId": unit}, "Accounts")
        below = _pages(call, "ListOrganizationalUnitsForParent", {"ParentId": unit}, "OrganizationalUnits")
        waiting += [str(child["Id"]) for child in below]


def _tags(call: Call, account: str) -> tuple[tuple[str, str], ...]:
    tags = _pages(call, "ListTagsForResource", {"ResourceId": account}, "Tags")
    return tuple(sorted((str(tag["Key"]), str(tag["Value"])) for tag in tags))


def _pages(call: Call, action: str, params: Mapping[str, Any], items: str) -> Iterator[Mapping[str, Any]]:
    """Every page, of at most 20; an empty one may be followed by another."""
    token: dict[str, str] = {}
    pages = PageTokens(f"organizations:{action}")
    while True:
        page = call(action, {**params, **token})
        yield from page.get(items, ())
        if not page.get("NextToken"):
            return
        token = {"NextToken": pages.next_params(str(page["NextToken"]))}


def select_accounts(
    targets: Iterable[Target], include: Sequence[str], exclude: Sequence[str]
) -> tuple[Target, ...]:
    """The accounts that are included and not excluded, sorted; raises BadInputError for a pattern of none."""
    targets = sorted(targets, key=lambda target: target.id)
    for pattern in (*include, *exclude):
        if not any(_matches(pattern, target) for target in targets):
            raise BadInputError(
                f"no account fits {pattern!r}",
                "Name accounts by id, by name (* matches anything), or as tag:KEY=VALUE.",
            )
    return tuple(
        target
        for target in targets
        if (not include or any(_matches(pattern, target) for pattern in include))
        and not any(_matches(pattern, target) for pattern in exclude)
    )


def _matches(pattern: str, target: Target) -> bool:
    if pattern.startswith("tag:"):
        key, _, value = pattern[4:].partition("=")
        return any(
            key == has and fnmatchcase(value_pattern, value or "*") for has, value_pattern in target.tags
        )
    return pattern == target.id or fnmatchcase(target.name, pattern)


# --- a file ---


class _AccountEntry(Value, frozen=True, kw_only=True):
    """`[[account]]` in our TOML."""

    id: str
    name: str = ""
    role: str = ""
    external_id: str = ""
    session_duration: int = 0
    profile: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)


class _AccountsFile(Value, frozen=True, kw_only=True):
    account: tuple[_AccountEntry, ...]


class _CustodianAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One account of c7n-org's accounts.yml; fields that are no concern of ours are passed over."""

    account_id: str
    name: str = ""
    role: str | tuple[str, ...] = ()
    external_id: str = ""
    profile: str = ""
    tags: tuple[str, ...] = ()


class _CustodianFile(msgspec.Struct, frozen=True, kw_only=True):
    accounts: tuple[_CustodianAccount, ...]


def read_file(path: Path, own: str, partition: str) -> tuple[Target, ...]:
    """The accounts of a file, sorted by id: c7n-org's where it ends in .yml or .yaml, else our TOML.

    Raises BadInputError. Source: https://cloudcustodian.io/docs/tools/c7n-org.html
    """
    try:
        text = read_text(path)
        read = _from_yaml if path.suffix in {".yml", ".yaml"} else _from_toml
        targets = read(text, partition)
    except OSError as error:
        why = f"the accounts file {path} cannot be read: {error.strerror or error}"
        raise BadInputError(why, "Check --accounts.") from error
    except DocumentError as error:
        raise BadInputError(f"the accounts file {path} {error.message}", error.hint or _FORMS) from error
    except msgspec.ValidationError as error:
        why = f"the accounts file {path} has a wrong field: {_first_line(error)}"
        raise BadInputError(why, _FORMS) from error
    for target in targets:
        _check_target(target, own)
    counts = Counter(target.id for target in targets)
    if twice := sorted(account for account, count in counts.items() if count > 1):
        raise BadInputError(f"the accounts file {path} names {twice[0]} twice")
    return tuple(sorted(targets, key=lambda target: target.id))


def _from_toml(text: str, partition: str) -> list[Target]:
    targets = []
    for table in msgspec.convert(parse_toml(text), _AccountsFile).account:
        entry = check_access(
            AccountAccess(
                role=table.role, external_id=table.external_id, session_duration=table.session_duration
            )
        )
        roles = (entry.arn(partition, table.id),) if table.role else ()
        tags = tuple(sorted(table.tags.items()))
        targets.append(
            Target(
                table.id, table.name, tags, roles, table.external_id, table.session_duration, table.profile
            )
        )
    return targets


def _from_yaml(text: str, _partition: str) -> list[Target]:
    targets = []
    for entry in msgspec.convert(parse_yaml(text), _CustodianFile).accounts:
        roles = (entry.role,) if isinstance(entry.role, str) else entry.role
        pairs = (tag.partition(":") for tag in entry.tags)
        tags = tuple(sorted((key, value) for key, _, value in pairs))
        targets.append(
            Target(entry.account_id, entry.name, tags, roles, entry.external_id, profile=entry.profile)
        )
    return targets


def _check_target(target: Target, own: str) -> None:
    if not re.fullmatch(r"\d{12}", target.id):
        raise BadInputError(
            f"{target.id!r} is no account id", "Twelve digits, in quotes where the file is YAML."
        )
    if target.roles and f"::{target.id}:role/" not in target.roles[-1]:
        raise BadInputError(f"the role {target.roles[-1]} is not in the account {target.id} that it is for")
    if not (target.roles or target.profile or target.id == own):
        raise BadInputError(
            f"account {target.id} has neither a role nor a profile",
            "Only the caller's own account needs none.",
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# --- entering ---


class SessionCredentials:
    """A session's credentials, taken when they are first asked for and again before they end.

    An account that may not be entered is not tried again for a minute: every call in it would ask.
    """

    def __init__(self, clock: Clock, take: Callable[[], Mapping[str, Any]]) -> None:
        self._clock = clock
        self._request_session = take
        self._lock = threading.Lock()
        self._current: tuple[ReadOnlyCredentials, datetime] | None = None
        self._refusal: tuple[NotEnteredError, datetime] | None = None

    def discard(self, used: str = "") -> None:
        """Forget the session; where a key is named, only if it is the session's: a newer one is good."""
        with self._lock:
            if self._current and used in ("", self._current[0].access_key):
                self._current = None

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """The credentials of this moment; raises AwsError."""
        with self._lock:
            if self._refusal and self._clock.now() < self._refusal[1] + _RETRY_AFTER:
                raise self._refusal[0]
            if self._current is None or self._clock.now() >= self._current[1] - _RENEW_BEFORE:
                try:
                    response = self._request_session()["Credentials"]
                except NotEnteredError as error:
                    self._refusal = error, self._clock.now()
                    raise
                keys = ReadOnlyCredentials(
                    response["AccessKeyId"], response["SecretAccessKey"], response["SessionToken"]
                )
                self._current = keys, response["Expiration"]
            return self._current[0]


def by_role(
    client: AwsClient, base: Principal, target: Target, role: str, *, shared: bool = False
) -> SessionCredentials:
    """The credentials of a role, assumed by the base; one that is `shared` is on the way to several accounts."""
    params: dict[str, Any] = {"RoleArn": role, "RoleSessionName": _SESSION}
    if target.external_id:
        params["ExternalId"] = target.external_id
    if target.session_duration:
        params["DurationSeconds"] = target.session_duration

    def take() -> Mapping[str, Any]:
        try:
            return client.call(base, "sts", "AssumeRole", params)
        except AwsError as error:
            place = "the role" if shared else f"account {target.id} cannot be entered by"
            why = f"{place} {role}{' cannot be assumed' if shared else ''}: {error.message}"
            raise _not_entered_error(error, why, "sts:AssumeRole") from error

    return SessionCredentials(client.clock, take)


def _not_entered_error(error: AwsError, why: str, action: str) -> AwsError:
    """A transient failure is left as it is, so that it is retried like any other call."""
    kind = type(error) if isinstance(error, _TEMPORARY_ERRORS) else NotEnteredError
    # A wrong clock or a policy of the organization is no matter of the role and its trust.
    plain = isinstance(error, DeniedError) and error.hint == DeniedError.default_hint
    hint = "" if plain else error.hint
    return kind(why, hint, code=error.code, action=action, request_id=error.request_id)


class ProfileCredentials:
    """A profile's credentials, of which it is made sure once that they are the account's."""

    def __init__(self, target: Target, profiles: ProfileStore, signers: SigningIdentities) -> None:
        self._target = target
        self._profiles = profiles
        self._signers = signers
        self._lock = threading.Lock()
        self._checked: Credentials | None = None

    def get_frozen_credentials(self) -> Any:
        """The credentials of this moment; raises AwsError."""
        with self._lock:
            if self._checked is None:
                self._checked = self._resolve()
            return self._checked.get_frozen_credentials()

    def _resolve(self) -> Credentials:
        profile, account = self._target.profile, self._target.id
        try:
            credentials = self._profiles.credentials(profile)
            owner = self._signers.identity(credentials.get_frozen_credentials()).account
        except AwsError as error:
            why = f"account {account} cannot be entered by the profile {profile}: {error.message}"
            raise _not_entered_error(error, why, "sts:GetCallerIdentity") from error
        if owner != account and not self._target.roles:
            raise NotEnteredError(f"the profile {profile} is of account {owner}, not of {account}")
        return credentials


class AccountSessions:
    """The credentials that sign in each account, kept for as long as the process: a session is taken once.

    Thread-safe. Accounts that are entered through the same role share its session.
    """

    def __init__(self, client: AwsClient, profiles: ProfileStore, signers: SigningIdentities) -> None:
        self._client = client
        self._profiles = profiles
        self._signers = signers
        self._lock = threading.Lock()
        self._current: dict[Target, Credentials] = {}
        self._intermediate: dict[tuple[tuple[str, ...], str, int], Credentials] = {}

    def credentials_for(self, base: Principal, target: Target) -> Credentials:
        """Whose credentials sign in an account: nothing is asked of AWS yet."""
        with self._lock:
            if target not in self._current:
                self._current[target] = self._role_credentials(base, target)
            return self._current[target]

    def forget(self, target: Target) -> None:
        """Drop the session of an account that is done with; the next use takes another."""
        with self._lock:
            kept = self._current.pop(target, None)
        if isinstance(kept, SessionCredentials):
            kept.discard()

    def _role_credentials(self, base: Principal, target: Target) -> Credentials:
        credentials: Credentials = base.credentials
        if target.profile:
            credentials = ProfileCredentials(target, self._profiles, self._signers)
        for at, role in enumerate(target.roles, 1):
            by = Principal(base.account, credentials)
            if at == len(target.roles) or target.profile:
                credentials = by_role(self._client, by, target, role)
                continue
            key = (target.roles[:at], target.external_id, target.session_duration)
            if key not in self._intermediate:
                self._intermediate[key] = by_role(self._client, by, target, role, shared=True)
            credentials = self._intermediate[key]
        return credentials
