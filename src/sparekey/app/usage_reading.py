"""The verbs of proof: who still uses which key, and the plan that rests on it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from sparekey import usage as proving
from sparekey.app.connection import Connection
from sparekey.app.output_files import read_plan
from sparekey.errors import BadInputError
from sparekey.model import Snapshot, Unreadable, Usage
from sparekey.planner import UserDecision, needs_usage
from sparekey.usage import ReadProgress, UsageRequest
from sparekey.usage.sources import athena

# Sources that ask AWS, and those of them that know the keys of their own account alone.
_ONE_ACCOUNT_SOURCES = frozenset({"history"})


def usage_request(
    *,
    since: str = "",
    until: str = "",
    accounts: Collection[str] = (),
    regions: Collection[str] = (),
    max_pages: int = 200,
    processes: int | None = None,
    workgroup: str = "",
    output: str = "",
    on_progress: Callable[[ReadProgress], None] = lambda _: None,
) -> UsageRequest:
    """What is asked of a usage source, as a person writes it; raises BadInputError for a time that is none."""
    return UsageRequest(
        since=_parse_time("--since", since),
        until=_parse_time("--until", until),
        accounts=frozenset(accounts),
        regions=frozenset(regions),
        max_pages=max_pages,
        processes=processes,
        workgroup=workgroup or None,
        output=output or None,
        progress=on_progress,
    )


def _parse_time(option: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"{option} {text!r} is no date or time", "Such as 2026-10-01.") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def read_usage(
    source: str, keys: Collection[str], usage_request: UsageRequest, connection: Connection | None = None
) -> tuple[Usage, ...]:
    """Who used the keys, sorted by key; a local archive needs no `app`."""
    if connection is None:
        return proving.read_usage(source, keys, usage_request)
    return proving.read_usage(
        source, keys, _with_aws_calls(connection, connection.gateway.account, usage_request)
    )


def read_usage_of_accounts(
    source: str, keys: Mapping[str, Collection[str]], usage_request: UsageRequest, connection: Connection
) -> tuple[Usage, ...]:
    """Who used the keys, given by account: asked once, or of each account where a source knows only its own."""
    if source.partition("=")[0] not in _ONE_ACCOUNT_SOURCES:
        owners = {key: account for account, of_account in keys.items() for key in of_account}
        return (
            read_usage(source, owners.keys(), replace(usage_request, owners=owners), connection)
            if owners
            else ()
        )
    usages: list[Usage] = []
    for account, of_account in sorted(keys.items()):
        usages += proving.read_usage(source, of_account, _with_aws_calls(connection, account, usage_request))
    return tuple(sorted(usages, key=lambda usage_: usage_.key))


def _with_aws_calls(connection: Connection, account: str, usage_request: UsageRequest) -> UsageRequest:
    return replace(
        usage_request,
        clock=connection.clock,
        profile=connection.profile or None,
        region=connection.region or None,
        call=connection.account(account).call,
    )


def contested_keys(decisions: Iterable[UserDecision]) -> dict[str, list[str]]:
    """By account, the active keys of each user for whom a usage could change the decision."""
    keys: dict[str, list[str]] = defaultdict(list)
    for decision in filter(needs_usage, decisions):
        keys[decision.account] += [key.id for key in decision.user.active_keys if key.id]
    return dict(keys)


def keys_of_user(snapshot: Snapshot, name: str) -> dict[str, list[str]]:
    """By account, the keys of the users with this name; raises BadInputError where there is none."""
    matches = {
        account.id: [key.id for key in user.keys if key.id]
        for account, user in snapshot.users()
        if user.name == name and not isinstance(user.keys, Unreadable)
    }
    if not any(matches.values()):
        raise BadInputError(f"no user {name!r} with an access key was read", "Names are case-sensitive.")
    return matches


def keys_of_plan(path: Path) -> dict[str, list[str]]:
    """By account, the keys that a plan names: to deactivate, held and kept."""
    keys_by_user: dict[str, set[str]] = defaultdict(set)
    for step in read_plan(path).steps:
        keys_by_user[step.account] |= {step.key} | ({step.keep} if step.keep else set())
    return {account: sorted(keys) for account, keys in keys_by_user.items()}


def athena_ddl(
    table: str,
    location: str,
    accounts: Collection[str],
    regions: Collection[str],
    since: str,
    organization: str = "",
) -> str:
    """The statement that makes the table which the source `athena=TABLE` reads; raises BadInputError."""
    try:
        first = date.fromisoformat(since)
    except ValueError:
        raise BadInputError(f"--since {since!r} is no date", "Such as 2026-01-01.") from None
    return athena.table_ddl(table, location, accounts, regions, first, organization)
