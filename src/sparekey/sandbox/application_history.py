"""The past of a company, made by calling: what its people and applications did before the sandbox began."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from sparekey.sandbox import sts
from sparekey.sandbox.cloudtrail_events import TrailEvent
from sparekey.sandbox.errors import ErrorReplyError, SandboxError
from sparekey.sandbox.faults import FaultRules
from sparekey.sandbox.iam import created_element, key_resources
from sparekey.sandbox.identity import CallerPrincipal
from sparekey.sandbox.protocols import OperationRequest, RawRequest
from sparekey.sandbox.request import ApiCall
from sparekey.sandbox.scenario import AppTable
from sparekey.sandbox.state import GLOBAL_SERVICES, Company, SandboxAccount, SandboxKey

_HISTORY = timedelta(days=90)
_ACTION = re.compile(r"[a-z0-9-]+:\w+")


class ApplicationOrigin(msgspec.Struct, frozen=True):
    """Where calls come from and where they go to."""

    region: str
    agent: str
    source: str


class ApplicationHistory:
    """Makes events that lie before `now`."""

    def __init__(self, company: Company, now: datetime) -> None:
        self._company = company
        self._faults = FaultRules(company)
        self._now = now

    def keys(self, account: SandboxAccount) -> Iterator[TrailEvent]:
        """The creation and the last change of each key, where the event history reaches back to it."""
        place = ApplicationOrigin(self._company.global_region, "AWS Internal", "198.51.100.7")
        administrator = self._administrator(account)
        for key in (key for user in account.users.values() for key in user.keys):
            if self._now - key.created < _HISTORY:
                params = {"UserName": key.user}
                call = self._call(administrator, key.created, "iam:CreateAccessKey", place, params)
                call.resources, call.response_elements = key_resources(key), created_element(key)
                yield call.event()
            if key.rotated != key.created and self._now - key.rotated < _HISTORY:
                params = {"UserName": key.user, "AccessKeyId": key.id, "Status": key.status}
                call = self._call(administrator, key.rotated, "iam:UpdateAccessKey", place, params)
                call.resources = key_resources(key)
                yield call.event()

    def add_application(self, account: SandboxAccount, app: AppTable) -> Iterator[TrailEvent]:
        """The calls of an application; each use is recorded on its key; raises SandboxError."""
        _check(app)
        key = self._company.key(account.id, app.user, app.key)
        caller = self._company.caller_of_key(key)
        calls = self._calls(app, caller)
        for back in range((app.start - app.end) // app.every, -1, -1):
            tick = self._now - app.end - app.every * back
            if app.via != "key" and (caller.session is None or caller.session.expires <= tick):
                caller, minted = self._minted(account, app, key, tick)
                calls = self._calls(app, caller)
                yield from minted
            for call in calls:
                ids = {"id": self._company.uuid(), "request_id": self._company.uuid()}
                yield msgspec.structs.replace(call, at=tick, **ids)
                if caller.session is None:
                    key.used(tick, call.service, app.region)

    def _calls(self, app: AppTable, caller: CallerPrincipal) -> list[TrailEvent]:
        """What the app does at each tick, to be dated."""
        message = "The request was refused."
        calls = [
            self._call(
                caller,
                self._now,
                action,
                ApplicationOrigin(self._region(action, app), app.agent, app.source),
                {},
            )
            for action in app.calls
        ]
        return [call.event(app.error, message if app.error else "") for call in calls]

    def _region(self, action: str, app: AppTable) -> str:
        service = action.partition(":")[0]
        return self._company.global_region if service in GLOBAL_SERVICES else app.region

    def _minted(
        self, account: SandboxAccount, app: AppTable, key: SandboxKey, at: datetime
    ) -> tuple[CallerPrincipal, list[TrailEvent]]:
        """A session as the app asks for it, and the events of asking."""
        params = {"DurationSeconds": str(int(app.session.total_seconds()))}
        if app.via == "AssumeRole":
            arn = app.role if app.role.startswith("arn:") else account.arn(f"role/{app.role}")
            params |= {"RoleArn": arn, "RoleSessionName": re.sub(r"[^\w+=,.@-]", "-", app.name)[:64]}
            params |= {"ExternalId": app.external_id} if app.external_id else {}
        elif app.via == "GetFederationToken":
            params |= {"Name": re.sub(r"[^\w+=,.@-]", "-", app.name)[:32]}
        place = ApplicationOrigin(app.region, app.agent, app.source)
        call = self._call(self._company.caller_of_key(key), at, f"sts:{app.via}", place, params)
        try:
            sts.ACTIONS[app.via](call)
        except ErrorReplyError as error:
            raise SandboxError(f"the app {app.name} cannot have called {app.via}: {error.message}") from error
        key.used(at, "sts", app.region)
        session = next(reversed(self._company.sessions.values()))
        return session.caller(), [call.event(), *call.extra_events]

    def _administrator(self, account: SandboxAccount) -> CallerPrincipal:
        """Somebody at the console, with no key of anybody's."""
        return CallerPrincipal(
            kind="AssumedRole",
            account=account.id,
            arn=account.arn("assumed-role/Administrator/console", "sts"),
            principal_id=f"AROA{self._company.derive('role', account.id, 16)}:console",
            key=self._company.fresh("ASIA"),
        )

    def _call(
        self,
        caller: CallerPrincipal,
        at: datetime,
        action: str,
        place: ApplicationOrigin,
        params: dict[str, str],
    ) -> ApiCall:
        service, _, name = action.partition(":")
        headers = {"user-agent": place.agent}
        return ApiCall(
            company=self._company,
            faults=self._faults,
            caller=caller,
            operation=OperationRequest(service, name, params),
            request=RawRequest(method="POST", path="/", headers=headers, client=place.source),
            region=place.region,
            request_id=self._company.uuid(),
            now=at,
            extra_events=[],
        )


def _check(app: AppTable) -> None:
    if app.every <= timedelta(0) or app.start < app.end:
        raise SandboxError(
            f'the app {app.name} never calls: its "every" is nothing, or its "from" is later than its "to".',
            'Both are ages: from = "90d", to = "2h".',
        )
    if not app.calls or not all(_ACTION.fullmatch(call) for call in app.calls):
        raise SandboxError(f"the app {app.name} needs calls such as s3:PutObject.")
