"""What is read again before a plan that this state did not make is shown: its users, and how many keys are active."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

import msgspec

from sparekey import audit as reading
from sparekey.app.connection import Connection
from sparekey.app.usage_reading import contested_keys, read_usage_of_accounts
from sparekey.aws.errors import AwsError, NotEnteredError, NotFoundError
from sparekey.aws.gateway import AccountGateway
from sparekey.decision import DecisionContext
from sparekey.errors import RefusedError
from sparekey.guards import Limits
from sparekey.model import Account, Caller, Snapshot, Unreadable, User
from sparekey.plan import Plan
from sparekey.planner import decide_with_usages, usage_by_key
from sparekey.revalidation import UserId, decide_planned_users, overrides_for, rebuild_from
from sparekey.usage import UsageRequest

# Users, and accounts, that are asked about at once.
_PARALLEL_READS = 16
# Of a larger account the credential report takes three calls, a listing one for each user.
_READ_ALONE_UP_TO = 20


def replan(
    connection: Connection,
    plan: Plan,
    caller: Caller,
    counts: Mapping[str, int],
    usage: str,
    usage_request: UsageRequest | None,
) -> Plan:
    """The plan decided again from what AWS reports of its users now; `usage` names a source to read again.

    `counts` are active keys by account, where they were counted. Raises AwsError where the credentials do not
    work, BadInputError, RefusedError.
    """
    snapshot = _read_users(connection, plan, caller)
    overrides = overrides_for(plan.overrides, snapshot)
    context = DecisionContext(connection.policy, connection.clock.now(), caller, overrides)
    decisions = decide_planned_users(plan, snapshot, context)
    if usage:
        keys = contested_keys(decisions)
        usages = read_usage_of_accounts(usage, keys, usage_request or UsageRequest(), connection)
        context = msgspec.structs.replace(context, usages=usage_by_key(usages))
        decisions = decide_with_usages(decisions, context)
    return rebuild_from(plan, snapshot, context, decisions, counts)


def _read_users(connection: Connection, plan: Plan, caller: Caller) -> Snapshot:
    """Every user of whom the plan has a step, as AWS reports now; who is gone is left out."""
    now, arns = connection.clock.now(), {(s.account, s.user): s.preconditions.arn for s in plan.steps}
    gateways = {account: connection.account(account) for account in sorted({account for account, _ in arns})}

    def read(who: UserId) -> User | None:
        return _read_user(gateways[who[0]], who[1], arns[who])

    with ThreadPoolExecutor(_PARALLEL_READS, thread_name_prefix="recheck") as pool:
        users = dict(zip(sorted(arns), pool.map(read, sorted(arns)), strict=True))
        aliases = dict(zip(gateways, pool.map(_alias, gateways.values()), strict=True))
        leaked = dict(zip(gateways, pool.map(_quarantine, gateways.values()), strict=True))
    partitions = {account.id: account.partition for account in plan.accounts}
    accounts = tuple(
        Account(
            account,
            partitions.get(account, connection.gateway.partition),
            tuple(
                reading.mark_quarantined(user, leaked[account])
                for (account_id, _), user in users.items()
                if account_id == account and user
            ),
            now,
            aliases[account],
            quarantine=quarantine if isinstance(quarantine := leaked[account], Unreadable) else True,
        )
        for account in gateways
    )
    return Snapshot(now, caller, accounts)


def _read_user(gateway: AccountGateway, name: str, arn: str) -> User | None:
    try:
        return reading.read_user(gateway, name, arn=arn)
    except NotFoundError:
        return None
    except NotEnteredError as error:
        return User(name, arn, Unreadable("account", error.message, error.code))


def _quarantine(gateway: AccountGateway) -> reading.Quarantine:
    try:
        return reading.read_quarantine(gateway)
    except NotEnteredError as error:
        return Unreadable("account", error.message, error.code)


def _alias(gateway: AccountGateway) -> str:
    try:
        return gateway.alias()
    except AwsError:
        return ""  # it is only shown


def active_keys(connection: Connection, plan: Plan, limits: Limits) -> dict[str, int]:
    """How many active keys accounts of the plan have, as far as the limits need to know.

    Accounts with steps come first; it ends once the number allows what the plan deactivates. What could not be
    read counts as no key: the limit is never wider than what was read.
    """
    going = len(plan.writes)
    own = {step.account for step in plan.writes}
    counts: dict[str, int] = {}

    def enough() -> bool:
        each = limits.account_share is None or own <= counts.keys()
        return each and limits.allowed(sum(counts.values())) >= going

    accounts = {account.id for account in plan.accounts}
    rest = iter(sorted(accounts, key=lambda account: (account not in own, account)))
    with ThreadPoolExecutor(_PARALLEL_READS, thread_name_prefix="count") as pool:
        while not enough() and (part := tuple(islice(rest, _PARALLEL_READS))):
            counts.update(
                zip(part, pool.map(lambda account: _count_active(connection, account), part), strict=True)
            )
    return counts


def _count_active(connection: Connection, account: str) -> int:
    try:
        gateway = connection.account(account)
    except RefusedError:
        return 0
    try:
        if gateway.summary().user_count > _READ_ALONE_UP_TO:
            return sum(row.active for row in gateway.credential_report().rows)
    except AwsError:
        return _count_by_listing(gateway)  # it may be allowed where summary and report are not
    return _count_by_listing(gateway)


def _count_by_listing(gateway: AccountGateway) -> int:
    """The active keys of every user; of a user who cannot be read, none."""
    active = 0
    with suppress(AwsError):
        for user in gateway.list_users():
            with suppress(AwsError):
                active += sum(key.active for key in gateway.list_keys(user.name))
    return active
