"""The verbs of a page that stays open: read once, decide again and again, read a few users afresh."""

from collections.abc import Callable, Collection

import msgspec

from sparekey import audit as reading
from sparekey import plan as planning
from sparekey import rules as judging
from sparekey.app.reading import read
from sparekey.app.session import App, OnProgress, silent
from sparekey.audit import ReadMode
from sparekey.aws.errors import NotFoundError
from sparekey.choose import NOTHING_ASKED, Asked
from sparekey.model import Account, Audit, Snapshot, Unreadable, Usage
from sparekey.plan import Plan

UserId = tuple[str, str]


def study(app: App, *, mode: ReadMode = "auto", on_progress: OnProgress = silent) -> Audit:
    """Ask the control itself of all that can be read, and read as much as a plan needs."""
    snapshot = read(app, mode=mode, on_progress=on_progress)
    return judging.assess(snapshot, app.policy, app.clock.now(), (judging.DEFAULT_RULE,))


def reread(app: App, audit: Audit, users: Collection[UserId]) -> Audit:
    """The audit with these users (account, name) read again now; who is gone drops out. Raises AwsError."""
    accounts = tuple(_reread(app, account, frozenset(users)) for account in audit.snapshot.accounts)
    snapshot = msgspec.structs.replace(audit.snapshot, accounts=accounts)
    return judging.assess(snapshot, app.policy, app.clock.now(), audit.rules, audit.cis)


def _reread(app: App, account: Account, users: frozenset[UserId]) -> Account:
    if isinstance(account.users, Unreadable) or not any(user[0] == account.id for user in users):
        return account
    gateway, seen = app.account(account.id), []
    for user in account.users:
        if (account.id, user.name) in users:
            try:
                seen.append(reading.read_user(gateway, user.name, arn=user.arn, created=user.created))
            except NotFoundError:
                continue
        else:
            seen.append(user)
    return msgspec.structs.replace(account, users=tuple(seen))


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
