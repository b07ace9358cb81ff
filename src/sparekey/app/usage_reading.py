"""The verbs of proof: who still uses which key, and the plan that rests on it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from sparekey import usage as proving
from sparekey.app.connection import App
from sparekey.app.output_files import read_plan
from sparekey.errors import BadInputError
from sparekey.model import Snapshot, Unreadable, Usage
from sparekey.selection import Asked, Choice, Held, choose
from sparekey.usage import Progress, Request
from sparekey.usage.sources import athena

# Sources that ask AWS, and those of them that know the keys of their own account alone.
_OF_ONE_ACCOUNT = frozenset({"history"})
# What a usage could change: a used key beside the one that stays, or a young one that only mints sessions.
_MOVED_BY_USAGE = frozenset({"no-usage", "not-proven"})


def request(
    *,
    since: str = "",
    until: str = "",
    accounts: Collection[str] = (),
    regions: Collection[str] = (),
    max_pages: int = 200,
    processes: int | None = None,
    workgroup: str = "",
    output: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Request:
    """What is asked of a usage source, as a person says it; raises BadInputError for a time that is none."""
    return Request(
        since=_time("--since", since),
        until=_time("--until", until),
        accounts=frozenset(accounts),
        regions=frozenset(regions),
        max_pages=max_pages,
        processes=processes,
        workgroup=workgroup or None,
        output=output or None,
        progress=on_progress,
    )


def _time(option: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"{option} {text!r} is no date or time", "Such as 2026-10-01.") from None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def usage(source: str, keys: Collection[str], wanted: Request, app: App | None = None) -> tuple[Usage, ...]:
    """Who used the keys, sorted by key; a local archive needs no `app`."""
    if app is None:
        return proving.read(source, keys, wanted)
    return proving.read(source, keys, _with_calls(app, app.gateway.account, wanted))


def usage_of_accounts(
    source: str, keys: Mapping[str, Collection[str]], wanted: Request, app: App
) -> tuple[Usage, ...]:
    """Who used the keys, given by account: asked once, or of each account where a source knows only its own."""
    if source.partition("=")[0] not in _OF_ONE_ACCOUNT:
        owners = {key: account for account, of_account in keys.items() for key in of_account}
        return usage(source, owners.keys(), replace(wanted, owners=owners), app) if owners else ()
    found: list[Usage] = []
    for account, of_account in sorted(keys.items()):
        found += proving.read(source, of_account, _with_calls(app, account, wanted))
    return tuple(sorted(found, key=lambda one: one.key))


def _with_calls(app: App, account: str, wanted: Request) -> Request:
    return replace(
        wanted,
        clock=app.clock,
        profile=app.profile or None,
        region=app.region or None,
        call=app.account(account).ask,
    )


def contested_keys(
    app: App, snapshot: Snapshot, asked: Asked, named: Collection[tuple[str, str]]
) -> dict[str, list[str]]:
    """By account, the active keys of each user (account, name) for whom a usage could change the choice."""
    found: dict[str, list[str]] = defaultdict(list)
    now = app.clock.now()
    for account, user in snapshot.users():
        if (account.id, user.name) not in named or isinstance(user.keys, Unreadable):
            continue
        choice = choose(account.id, user, app.policy, now, asked=asked, caller=snapshot.caller, usages={})
        if choice and _usage_matters(choice):
            found[account.id] += [key.id for key in user.active_keys if key.id]
    return dict(found)


def _usage_matters(choice: Choice) -> bool:
    return any(isinstance(one, Held) and one.reason in _MOVED_BY_USAGE for one in choice.outcomes)


def keys_of_user(snapshot: Snapshot, name: str) -> dict[str, list[str]]:
    """By account, the keys of the users with this name; raises BadInputError where there is none."""
    found = {
        account.id: [key.id for key in user.keys if key.id]
        for account, user in snapshot.users()
        if user.name == name and not isinstance(user.keys, Unreadable)
    }
    if not any(found.values()):
        raise BadInputError(f"no user {name!r} with an access key was read", "Names are case-sensitive.")
    return found


def keys_of_plan(path: Path) -> dict[str, list[str]]:
    """By account, the keys that a plan speaks of: those that go, those that are held, those that stay."""
    found: dict[str, set[str]] = defaultdict(set)
    for step in read_plan(path).steps:
        found[step.account] |= {step.key} | ({step.keep} if step.keep else set())
    return {account: sorted(keys) for account, keys in found.items()}


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
    return athena.ddl(table, location, accounts, regions, first, organization)
