"""Which accounts are read, and with whose credentials each is entered.

They come from AWS Organizations, or from a file: our TOML, or c7n-org's accounts.yml.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from sparekey.aws.paging import PageTokens
from sparekey.errors import BadInputError
from sparekey.model import SkippedAccount, Value

_ACTIVE = "ACTIVE"


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


# --- entering ---
