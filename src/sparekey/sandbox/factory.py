"""From a scenario to a company: its people, its keys and its past."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from sparekey.sandbox import secretsmanager, ssm
from sparekey.sandbox.application_history import ApplicationHistory
from sparekey.sandbox.clock import SandboxClock
from sparekey.sandbox.cloudtrail_events import TrailEvent
from sparekey.sandbox.errors import SandboxError
from sparekey.sandbox.scenario import (
    AccountTable,
    CallerTable,
    Duration,
    KeyTable,
    Scenario,
    SecretTable,
    UserTable,
)
from sparekey.sandbox.state import (
    EVER,
    Company,
    LastUseRecord,
    SandboxAccount,
    SandboxKey,
    SandboxRole,
    SandboxUser,
)

_USER_AGE = timedelta(days=90)
_OPERATOR = "operator"


def build_company(scenario: Scenario, clock: SandboxClock) -> Company:
    """Found the company; raises SandboxError where the scenario contradicts itself."""
    company = Company(seed=scenario.seed, partition=scenario.partition, clock=clock)
    company.regions, company.regions_off = scenario.regions, scenario.regions_off
    company.organization = scenario.organization
    company.report, company.lookup_rate = scenario.report, scenario.lookup_rate
    company.faults = list(scenario.fault)
    now = clock.now().replace(microsecond=0)
    for table in scenario.account:
        _account(company, table, now)
    for table in scenario.account:
        for secret in table.secret:
            _secret(company, table.id, secret, now)
    company.operator = _operator(company, scenario, now)
    recorded_uses = {key.id: list(key.uses) for key in company.keys.values() if key.uses}
    company.trail.extend(_past(company, scenario, now))
    for key in company.keys.values():
        # What the scenario says itself of a last use stands, whatever its applications did.
        key.uses = recorded_uses.get(key.id) or key.uses
    return company


def _past(company: Company, scenario: Scenario, now: datetime) -> Iterator[TrailEvent]:
    past = ApplicationHistory(company, now)
    for table in scenario.account:
        account = company.accounts[table.id]
        yield from past.keys(account)
        for app in table.app:
            yield from past.add_application(account, app)


def _account(company: Company, table: AccountTable, now: datetime) -> None:
    account = SandboxAccount(
        id=table.id,
        name=table.name or f"account-{table.id}",
        alias=table.alias,
        partition=company.partition,
        status=table.status,
        unit=table.unit,
        tags=dict(table.tags),
        joined=now - timedelta(days=1500),
        users={},
        former_users=[],
        renamed=[],
        roles={},
        root_keys=[],
    )
    company.accounts[account.id] = account
    crowd = (
        UserTable(name=f"{many.prefix}{number}", path=many.path, key=many.key)
        for many in table.many
        for number in range(1, many.count + 1)
    )
    for user in (*table.user, *crowd):
        _user(company, account, user, now)
    _keys(company, account, "", table.root_key, now)
    for role in table.role:
        id_ = "AROA" + company.derive("role", f"{account.id}/{role.name}", 16)
        account.roles[role.name] = SandboxRole(id=id_, **msgspec.structs.asdict(role))


def _user(company: Company, account: SandboxAccount, table: UserTable, now: datetime) -> None:
    if table.name in account.users:
        raise SandboxError(f"the scenario has the user {table.name} of the account {account.id} twice.")
    if not (table.path.startswith("/") and table.path.endswith("/")):
        raise SandboxError(
            f"the path {table.path!r} of the user {table.name} is none.", 'A path begins and ends with "/".'
        )
    age = table.age or max((key.age for key in table.key), default=_USER_AGE)
    account.users[table.name] = SandboxUser(
        name=table.name,
        path=table.path,
        id="AIDA" + company.derive("user", f"{account.id}/{table.name}", 16),
        account=account.id,
        created=now - age,
        console=table.console,
        allow=table.allow,
        keys=[],
        policies=list(table.policies),
    )
    _keys(company, account, table.name, table.key, now)


def _keys(
    company: Company, account: SandboxAccount, user: str, tables: tuple[KeyTable, ...], now: datetime
) -> None:
    for number, table in enumerate(tables, 1):
        id_ = table.id or "AKIA" + company.derive("key", f"{account.id}/{user}/{number}", 16)
        if id_ in company.keys:
            raise SandboxError(f"the scenario has the access key {id_} twice.")
        used = table.used
        company.add_key(
            SandboxKey(
                id=id_,
                secret=company.secret(id_),
                account=account.id,
                user=user,
                created=now - table.age,
                statuses=[(EVER, table.status)],
                rotated=now - (table.age if table.changed is None else table.changed),
                uses=[LastUseRecord(now - used.ago, used.service, used.region)] if used else [],
            )
        )


def _secret(company: Company, account: str, table: SecretTable, now: datetime) -> None:
    key = company.key(account, table.user, table.key)
    content = {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret, **table.fields}
    place = f"{account}/{table.region}"
    if table.store == "secretsmanager":
        secretsmanager.add_secret(company, place, table.name, json.dumps(content), now)
    else:
        ssm.add_parameter(company, place, table.name, json.dumps(content), now)


def _operator(company: Company, scenario: Scenario, now: datetime) -> SandboxKey:
    """The key that is handed out: the caller's, or that of a user made for it."""
    caller = scenario.caller
    if caller is None:
        account = next(iter(company.accounts.values()))
        if _OPERATOR not in account.users:
            _user(company, account, UserTable(name=_OPERATOR, key=(KeyTable(age=Duration(days=30)),)), now)
        caller = CallerTable(account=account.id, user=_OPERATOR)
    return company.key(caller.account, caller.user, caller.key)
