"""Who calls: principals, and the temporary credentials that stand for them."""

from datetime import datetime
from typing import Literal

import msgspec

CallerKind = Literal["IAMUser", "AssumedRole", "FederatedUser", "Root"]


class CallerPrincipal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request comes from: the principal, the key it is signed with, and the session, if it is one."""

    kind: CallerKind
    account: str
    arn: str
    principal_id: str
    key: str
    user: str = ""
    session: "IssuedSession | None" = None

    @property
    def name(self) -> str:
        """What CloudTrail calls the user name."""
        return self.user or self.arn.rpartition("/")[2]

    @property
    def principal(self) -> str:
        """The user or role that permissions are given to; "root" for the root user."""
        return self.user or (self.session.role if self.session else "") or "root"


class SessionIssuer(msgspec.Struct, frozen=True):
    """The role or user that a session stands for."""

    kind: Literal["Role", "IAMUser"]
    principal_id: str
    arn: str
    name: str


class IssuedSession(msgspec.Struct, frozen=True, kw_only=True):
    """Temporary credentials; `minted_by` is the key that asked for them, itself perhaps a session's."""

    id: str
    secret: str
    token: str
    account: str
    minted_by: str
    by: Literal["GetSessionToken", "GetFederationToken", "AssumeRole", "AssumeRoot"]
    created: datetime
    expires: datetime
    kind: CallerKind
    arn: str
    principal_id: str
    user: str = ""
    role: str = ""
    task: str = ""
    issuer: SessionIssuer | None = None
    mfa: bool = False

    def __repr__(self) -> str:
        return f"Session({self.id}, {self.by}, {self.arn})"

    def caller(self) -> CallerPrincipal:
        """Who a request with these credentials comes from."""
        return CallerPrincipal(
            kind=self.kind,
            account=self.account,
            arn=self.arn,
            principal_id=self.principal_id,
            key=self.id,
            user=self.user,
            session=self,
        )
