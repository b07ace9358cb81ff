"""One call on its way through the sandbox."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from sparekey.sandbox.cloudtrail_events import TrailEvent
from sparekey.sandbox.identity import CallerPrincipal
from sparekey.sandbox.protocols import OperationRequest, RawRequest
from sparekey.sandbox.state import Company, SandboxAccount

if TYPE_CHECKING:
    from sparekey.sandbox.faults import FaultRules


# Without a user name these concern the caller's own.
_OWN_BY_DEFAULT = frozenset(
    {"CreateAccessKey", "DeleteAccessKey", "GetUser", "ListAccessKeys", "UpdateAccessKey"}
)


# What neither CloudTrail nor the sandbox's own record of calls shows.
HIDDEN = frozenset({"MessageBody", "SecretBinary", "SecretString", "TokenCode", "Value"})


class ApiCall(msgspec.Struct, kw_only=True):
    """A request whose sender is known; handlers leave in it what CloudTrail shall record."""

    company: Company
    faults: "FaultRules"
    caller: CallerPrincipal
    operation: OperationRequest
    request: RawRequest
    region: str
    request_id: str
    now: datetime
    response_elements: dict[str, Any] | None = None
    resources: tuple[tuple[str, str], ...] = ()
    extra_events: list[TrailEvent] = []
    shared: str = ""

    @property
    def account(self) -> SandboxAccount:
        """The caller's account: the one that is acted on."""
        return self.company.accounts[self.caller.account]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the operation."""
        return self.operation.params

    @property
    def action(self) -> str:
        """Such as iam:ListUsers."""
        return f"{self.operation.service}:{self.operation.action}"

    @property
    def target(self) -> str:
        """The user that the call is about; empty where it is about none."""
        name = self.params.get("UserName", "")
        if self.operation.action == "GetAccessKeyLastUsed":
            key = self.company.keys.get(str(self.params.get("AccessKeyId")))
            name = key.user if key else ""
        elif self.operation.action in _OWN_BY_DEFAULT:
            name = name or self.caller.user
        return str(name)

    @property
    def agent(self) -> str:
        """The client's user agent."""
        return self.request.headers.get("user-agent", "")

    def event(self, error: str = "", message: str = "") -> TrailEvent:
        """The call as CloudTrail records it."""
        return TrailEvent(
            at=self.now.replace(microsecond=0),
            account=self.caller.account,
            region=self.region,
            service=self.operation.service,
            name=self.operation.action,
            caller=self.caller,
            agent=self.agent,
            source=self.request.client,
            id=self.company.uuid(),
            request_id=self.request_id,
            request={_lower(name): value for name, value in self.params.items() if name not in HIDDEN}
            or None,
            response=None if error else self.response_elements,
            error=error,
            message=message,
            resources=() if error else self.resources,
            shared=self.shared,
        )


Handler = Callable[[ApiCall], dict[str, Any] | None]


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
