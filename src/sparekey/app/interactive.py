"""The verbs of a page that stays open: read once, decide again and again, read a few users afresh."""

from collections.abc import Callable, Collection
from contextlib import suppress

import msgspec

from sparekey import audit as reading
from sparekey import plan as planning
from sparekey import rules as judging
from sparekey.app.connection import App, OnProgress, silent
from sparekey.app.planning import read
from sparekey.audit import ReadMode
from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.aws.gateway import AccountGateway
from sparekey.model import Account, Audit, Snapshot, Unreadable, Usage, User
from sparekey.plan import Plan
from sparekey.selection import NOTHING_ASKED, Asked

UserId = tuple[str, str]


def study(app: App, *, mode: ReadMode = "auto", on_progress: OnProgress = silent) -> Audit:
    """Ask the control itself of all that can be read, and read as much as a plan needs."""
    snapshot = read(app, mode=mode, on_progress=on_progress)
    return judging.assess(snapshot, app.policy, app.clock.now(), (judging.DEFAULT_RULE,))


def reread(app: App, audit: Audit, users: Collection[UserId]) -> Audit:
    """The audit with these users (account, name) read again now; who was deleted drops out. Raises AwsError.

    A user who was renamed stands under the new name.
    """
    accounts = tuple(_reread(app, account, frozenset(users)) for account in audit.snapshot.accounts)
    snapshot = msgspec.structs.replace(audit.snapshot, accounts=accounts)
    return judging.assess(snapshot, app.policy, app.clock.now(), audit.rules, audit.cis)


def _reread(app: App, account: Account, users: frozenset[UserId]) -> Account:
    if isinstance(account.users, Unreadable) or not any(user[0] == account.id for user in users):
        return account
    gateway = app.account(account.id)
    seen = {user.name: user for user in account.users if (account.id, user.name) not in users}
    missing: list[User] = []
    for user in account.users:
        if user.name in seen:
            continue
        found = _read_again(gateway, user)
        if found is None or _is_another(user, found):
            missing.append(user)
        else:
            seen[user.name] = found
    if missing:
        listed = tuple(gateway.list_users())
        by_id = {user.id: user for user in listed if user.id}
        by_name = {user.name: user for user in listed}
        for user in missing:
            # IAM's own id outlives the name; only without one must AWS say whose the keys are.
            now = by_id.get(user.id) if user.id else by_name.get(_owner(gateway, user))
            found = _read_again(gateway, now) if now else None
            if found is not None:
                seen[found.name] = found
    # A plan made of this page is not decided on anew: whose key has leaked since must show here.
    leaked = reading.read_quarantine(gateway) if account.quarantine else ()
    return msgspec.structs.replace(
        account,
        users=tuple(reading.marked(user, leaked) for _, user in sorted(seen.items())),
        quarantine=leaked if isinstance(leaked, Unreadable) else bool(account.quarantine),
    )


def _read_again(gateway: AccountGateway, user: User) -> User | None:
    try:
        return reading.read_user(gateway, user.name, arn=user.arn, created=user.created, id_=user.id)
    except NotFoundError:
        return None


def _owner(gateway: AccountGateway, user: User) -> str:
    """The name of the user who has the keys now; empty where nobody has, or AWS does not say."""
    for key in user.keys if isinstance(user.keys, tuple) else ():
        with suppress(AwsError):
            return gateway.owner_of(key.id or "")
    return ""


def _is_another(before: User, now: User) -> bool:
    """True where none of the keys is the same: the name may be another user's now."""
    ids = [{key.id for key in user.keys} if isinstance(user.keys, tuple) else set() for user in (before, now)]
    return all(ids) and ids[0].isdisjoint(ids[1])


def decide(
    app: App,
    snapshot: Snapshot,
    *,
    asked: Asked = NOTHING_ASKED,
    usages: Collection[Usage] = (),
    wanted: Callable[[str, str], bool] = lambda _account, _name: True,
) -> Plan:
    """Decide on what was read already, for every user (account, name) that is wanted; AWS is not asked."""
    return planning.make(snapshot, app.policy, app.clock.now(), asked=asked, usages=usages, wanted=wanted)


def encode_plan(plan: Plan) -> bytes:
    """A plan's file, as `write_plan` writes it."""
    return planning.encode(plan)
