"""What a console needs: read once, decide often, read a few users again."""

from collections.abc import Callable, Collection
from contextlib import suppress

import msgspec

from sparekey import audit as reading
from sparekey import plan as planning
from sparekey import planner
from sparekey import rules as judging
from sparekey.app.connection import Connection, OnProgress, ignore_progress
from sparekey.app.planning import read_snapshot
from sparekey.audit import ReadMode
from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.aws.gateway import AccountGateway
from sparekey.decision import NO_OVERRIDES, Overrides
from sparekey.model import Account, Audit, Snapshot, Unreadable, Usage, User
from sparekey.plan import Plan

UserId = tuple[str, str]


def audit_for_page(
    connection: Connection, *, mode: ReadMode = "auto", on_progress: OnProgress = ignore_progress
) -> Audit:
    """Ask the control itself of all that can be read, and read as much as a plan needs."""
    snapshot = read_snapshot(connection, mode=mode, on_progress=on_progress)
    return judging.assess(snapshot, connection.policy, connection.clock.now(), (judging.DEFAULT_RULE,))


def reread_users(connection: Connection, audit: Audit, users: Collection[UserId]) -> Audit:
    """The audit with these users (account, name) read again now; who was deleted drops out. Raises AwsError.

    A user who was renamed stands under the new name.
    """
    accounts = tuple(
        _reread_account(connection, account, frozenset(users)) for account in audit.snapshot.accounts
    )
    snapshot = msgspec.structs.replace(audit.snapshot, accounts=accounts)
    return judging.assess(snapshot, connection.policy, connection.clock.now(), audit.rules, audit.cis)


def _reread_account(connection: Connection, account: Account, users: frozenset[UserId]) -> Account:
    if isinstance(account.users, Unreadable) or not any(user[0] == account.id for user in users):
        return account
    gateway = connection.account(account.id)
    seen = {user.name: user for user in account.users if (account.id, user.name) not in users}
    missing: list[User] = []
    for user in account.users:
        if user.name in seen:
            continue
        fresh = _reread_user(gateway, user)
        if fresh is None or _is_another_user(user, fresh):
            missing.append(user)
        else:
            seen[user.name] = fresh
    if missing:
        listed = tuple(gateway.list_users())
        by_id = {user.id: user for user in listed if user.id}
        by_name = {user.name: user for user in listed}
        for user in missing:
            # IAM's own id outlives the name; only without one must AWS say whose the keys are.
            now = by_id.get(user.id) if user.id else by_name.get(_current_name(gateway, user))
            fresh = _reread_user(gateway, now) if now else None
            if fresh is not None:
                seen[fresh.name] = fresh
    # A plan made of this page is not decided again: a key that has leaked since must show here.
    leaked = reading.read_quarantine(gateway) if account.quarantine else ()
    return msgspec.structs.replace(
        account,
        users=tuple(reading.mark_quarantined(user, leaked) for _, user in sorted(seen.items())),
        quarantine=leaked if isinstance(leaked, Unreadable) else bool(account.quarantine),
    )


def _reread_user(gateway: AccountGateway, user: User) -> User | None:
    try:
        return reading.read_user(gateway, user.name, "every", arn=user.arn, created=user.created, id_=user.id)
    except NotFoundError:
        return None


def _current_name(gateway: AccountGateway, user: User) -> str:
    """The name of the user who has the keys now; empty where nobody has, or AWS does not say."""
    for key in user.keys if isinstance(user.keys, tuple) else ():
        with suppress(AwsError):
            return gateway.owner_of(key.id or "")
    return ""


def _is_another_user(before: User, now: User) -> bool:
    """True where none of the keys is the same: the name may be another user's now."""
    ids = [{key.id for key in user.keys} if isinstance(user.keys, tuple) else set() for user in (before, now)]
    return all(ids) and ids[0].isdisjoint(ids[1])


def plan_again(
    connection: Connection,
    snapshot: Snapshot,
    *,
    overrides: Overrides = NO_OVERRIDES,
    usages: Collection[Usage] = (),
    is_wanted: Callable[[str, str], bool] = lambda _account, _name: True,
) -> Plan:
    """Decide on what was read already, for every user (account, name) that is wanted; AWS is not asked."""
    return planner.make_plan(
        snapshot,
        connection.policy,
        connection.clock.now(),
        overrides=overrides,
        usages=usages,
        is_wanted=is_wanted,
    )


def encode_plan(plan: Plan) -> bytes:
    """A plan's file, as `plan -o` writes it."""
    return planning.encode(plan)
