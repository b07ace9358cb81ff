"""From a scenario to a company: its people, its keys and its past."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from sparekey.sandbox import sts
from sparekey.sandbox.call import Call
from sparekey.sandbox.clock import SandboxClock
from sparekey.sandbox.errors import AwsError, SandboxError
from sparekey.sandbox.faults import Faults
from sparekey.sandbox.iam import created_element
from sparekey.sandbox.identity import Caller
from sparekey.sandbox.scenario import AccountTable, AppTable, CallerTable, KeyTable, Scenario, Span, UserTable
from sparekey.sandbox.state import EVER, Account, Company, Key, LastUse, Role, User
from sparekey.sandbox.trail import Event
from sparekey.sandbox.wire import Operation, Request

_HISTORY = timedelta(days=90)
_OPERATOR = "operator"


def build(scenario: Scenario, clock: SandboxClock) -> Company:
    """Found the company; raises SandboxError where the scenario contradicts itself."""
    company = Company(seed=scenario.seed, partition=scenario.partition, clock=clock)
    company.regions, company.regions_off = scenario.regions, scenario.regions_off
    company.organization = scenario.organization
    company.report, company.lookup_rate = scenario.report, scenario.lookup_rate
    company.faults = list(scenario.fault)
    now = clock.now().replace(microsecond=0)
    for table in scenario.account:
        _account(company, table, now)
    company.operator = _operator(company, scenario, now)
    told = {key.id: list(key.uses) for key in company.keys.values() if key.uses}
    for account in company.accounts.values():
        company.trail.extend(_key_events(company, account, now))
    for table in scenario.account:
        for app in table.app:
            company.trail.extend(_app_events(company, company.accounts[table.id], app, now))
    for key in company.keys.values():
        # What the scenario says itself of a last use stands, whatever its applications did.
        key.uses = told.get(key.id) or key.uses
    return company


def _account(company: Company, table: AccountTable, now: datetime) -> None:
    account = Account(
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
    for number, key in enumerate(table.root_key, 1):
        _key(company, account, "", number, key, now)
    for role in table.role:
        id_ = "AROA" + company.derive("role", f"{account.id}/{role.name}", 16)
        account.roles[role.name] = Role(
            name=role.name,
            path=role.path,
            id=id_,
            trust=role.trust,
            external_id=role.external_id,
            max_session=role.max_session,
            allow=role.allow,
        )


def _user(company: Company, account: Account, table: UserTable, now: datetime) -> None:
    if table.name in account.users:
        raise SandboxError(f"the scenario has the user {table.name} of the account {account.id} twice.")
    if not (table.path.startswith("/") and table.path.endswith("/")):
        raise SandboxError(
            f"the path {table.path!r} of the user {table.name} is none.", 'A path begins and ends with "/".'
        )
    age = table.age or max((key.age for key in table.key), default=_HISTORY)
    account.users[table.name] = User(
        name=table.name,
        path=table.path,
        id="AIDA" + company.derive("user", f"{account.id}/{table.name}", 16),
        account=account.id,
        created=now - age,
        console=table.console,
        allow=table.allow,
        keys=[],
    )
    for number, key in enumerate(table.key, 1):
        _key(company, account, table.name, number, key, now)


def _key(company: Company, account: Account, user: str, number: int, table: KeyTable, now: datetime) -> None:
    id_ = table.id or "AKIA" + company.derive("key", f"{account.id}/{user}/{number}", 16)
    if id_ in company.keys:
        raise SandboxError(f"the scenario has the access key {id_} twice.")
    used = table.used
    company.add_key(
        Key(
            id=id_,
            secret=company.secret(id_),
            account=account.id,
            user=user,
            created=now - table.age,
            statuses=[(EVER, table.status)],
            rotated=now - (table.age if table.changed is None else table.changed),
            uses=[LastUse(now - used.ago, used.service, used.region)] if used else [],
        )
    )


def _operator(company: Company, scenario: Scenario, now: datetime) -> Key:
    """The key that is handed out: the caller's, or that of a user made for it."""
    caller = scenario.caller
    if caller is None:
        account = next(iter(company.accounts.values()))
        if _OPERATOR not in account.users:
            _user(company, account, UserTable(name=_OPERATOR, key=(KeyTable(age=Span(days=30)),)), now)
        caller = CallerTable(account=account.id, user=_OPERATOR)
    return _numbered(company, company.accounts[caller.account], caller.user, caller.key)


def _numbered(company: Company, account: Account, user: str, number: int) -> Key:
    keys = company.user(account.id, user).keys
    if not 1 <= number <= len(keys):
        raise SandboxError(f"the user {user} of the account {account.id} has no key number {number}.")
    return keys[number - 1]


def _call(
    company: Company,
    caller: Caller,
    at: datetime,
    action: str,
    region: str,
    agent: str,
    source: str,
    **params: str,
) -> Call:
    """A call that was made in the past."""
    service, _, name = action.partition(":")
    return Call(
        company=company,
        faults=Faults(company),
        caller=caller,
        operation=Operation(service, name, params),
        request=Request(method="POST", path="/", headers={"user-agent": agent}, client=source),
        region=region,
        request_id=company.uuid(),
        now=at,
        also=[],
    )


def _key_events(company: Company, account: Account, now: datetime) -> Iterator[Event]:
    """The creation and the last change of each key, where the event history reaches back to it."""
    operator = company.caller_of_key(company.operator)
    place = (company.global_region, "AWS Internal", "198.51.100.7")
    for user in account.users.values():
        for key in user.keys:
            caller = operator if operator.account == account.id else company.caller_of_key(key)
            resources = (("AWS::IAM::AccessKey", key.id), ("AWS::IAM::User", user.name))
            if now - key.created < _HISTORY:
                call = _call(company, caller, key.created, "iam:CreateAccessKey", *place, UserName=user.name)
                call.resources, call.response_elements = resources, created_element(key)
                yield call.event()
            if key.rotated != key.created and now - key.rotated < _HISTORY:
                params = {"UserName": user.name, "AccessKeyId": key.id, "Status": key.status}
                call = _call(company, caller, key.rotated, "iam:UpdateAccessKey", *place, **params)
                call.resources = resources
                yield call.event()


def _app_events(company: Company, account: Account, app: AppTable, now: datetime) -> Iterator[Event]:
    """The calls of an application; each use is told to its key."""
    key = _numbered(company, account, app.user, app.key)
    _check(app)
    end = now - app.end
    place = (app.region, app.agent, app.source)
    caller = company.caller_of_key(key)
    for back in range((app.start - app.end) // app.every, -1, -1):
        tick = end - app.every * back
        if app.via != "key" and (caller.session is None or caller.session.expires <= tick):
            caller, minted = _minted(company, account, app, key, tick)
            yield from minted
        for action in app.calls:
            call = _call(company, caller, tick, action, *place)
            yield call.event(app.error, "The request was refused." if app.error else "")
            if caller.session is None:
                key.used(tick, call.operation.service, app.region)


def _check(app: AppTable) -> None:
    if app.every <= timedelta(0) or app.start < app.end:
        raise SandboxError(
            f'the app {app.name} never calls: its "every" is nothing, or its "from" is later than its "to".',
            'Both are ages: from = "90d", to = "2h".',
        )
    if not app.calls or not all(re.fullmatch(r"[a-z0-9-]+:\w+", call) for call in app.calls):
        raise SandboxError(f"the app {app.name} needs calls such as s3:PutObject.")


def _minted(
    company: Company, account: Account, app: AppTable, key: Key, at: datetime
) -> tuple[Caller, list[Event]]:
    """A session as the app asks for it, and the events of asking."""
    params = {"DurationSeconds": str(int(app.session.total_seconds()))}
    if app.via == "AssumeRole":
        arn = app.role if app.role.startswith("arn:") else account.arn(f"role/{app.role}")
        params |= {"RoleArn": arn, "RoleSessionName": app.name}
    elif app.via == "GetFederationToken":
        params |= {"Name": app.name[:32]}
    call = _call(
        company, company.caller_of_key(key), at, f"sts:{app.via}", app.region, app.agent, app.source, **params
    )
    try:
        sts.ACTIONS[app.via](call)
    except AwsError as error:
        raise SandboxError(f"the app {app.name} cannot have called {app.via}: {error.message}.") from error
    key.used(at, "sts", app.region)
    session = next(reversed(company.sessions.values()))
    return session.caller(), [call.event(), *call.also]
