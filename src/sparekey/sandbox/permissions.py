"""What a principal may do: everything, unless its `allow`, its session or a fault says otherwise."""

from fnmatch import fnmatchcase
from typing import Literal

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.faults import FaultRules
from sparekey.sandbox.identity import IssuedSession
from sparekey.sandbox.request import ApiCall
from sparekey.sandbox.state import SandboxAccount

Decision = Literal["allowed", "explicitDeny", "implicitDeny"]
# The task policies of AssumeRoot, as far as the sandbox has their actions.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/security-iam-awsmanpol.html
_READ_ROOT = frozenset({"iam:GetUser", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"})
TASKS = {
    "IAMAuditRootUserCredentials": _READ_ROOT,
    "IAMDeleteRootUserCredentials": _READ_ROOT | {"iam:DeleteAccessKey"},
}
_FREE = "sts:GetCallerIdentity"
_SESSION_STS = frozenset({_FREE, "sts:AssumeRole"})


def decide(
    faults: FaultRules,
    account: SandboxAccount,
    principal: str,
    action: str,
    *,
    role: bool = False,
    target: str = "",
    region: str = "",
) -> Decision:
    """What the policies of a user or role say of an action."""
    if faults.denied(account.id, action, principal, target, region):
        return "explicitDeny"
    holder = account.roles.get(principal) if role else account.users.get(principal)
    if holder is None and principal != "root":
        return "implicitDeny"
    allow = holder.allow if holder else None
    if allow is not None and not any(fnmatchcase(action.lower(), pattern.lower()) for pattern in allow):
        return "implicitDeny"
    return "allowed"


def authorize(call: ApiCall) -> None:
    """Let the call pass; raises AwsError as AWS words it."""
    if call.action == _FREE:
        return
    caller, session = call.caller, call.caller.session
    if session and session.by in {"GetSessionToken", "GetFederationToken"}:
        _check_session(call, session)
    if session and session.by == "AssumeRoot":
        decision: Decision = "allowed" if call.action in TASKS[session.task] else "implicitDeny"
    else:
        decision = decide(
            call.faults,
            call.account,
            caller.principal,
            call.action,
            role=caller.kind == "AssumedRole",
            target=call.target,
            region=call.region,
        )
    if decision != "allowed":
        raise denied(call, decision)


def _check_session(call: ApiCall, session: IssuedSession) -> None:
    """What a user's own sessions may never do.

    Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
    """
    federated = session.by == "GetFederationToken"
    if call.operation.service == "iam" and (federated or not session.mfa):
        raise ErrorReplyError(
            "InvalidClientTokenId", "The security token included in the request is invalid", 403
        )
    if call.operation.service == "sts" and (federated or call.action not in _SESSION_STS):
        raise ErrorReplyError(
            "AccessDenied", f"Cannot call {call.operation.action} with session credentials", 403
        )


def denied(call: ApiCall, decision: Decision = "implicitDeny") -> ErrorReplyError:
    """AccessDenied, naming principal, action and resource."""
    why = (
        "with an explicit deny in an identity-based policy"
        if decision == "explicitDeny"
        else f"because no identity-based policy allows the {call.action} action"
    )
    who = f"User: {call.caller.arn} is not authorized to perform: {call.action}"
    return ErrorReplyError("AccessDenied", f"{who} on resource: {_resource(call)} {why}", 403)


def _resource(call: ApiCall) -> str:
    match call.operation.action:
        case "AssumeRole":
            return str(call.params.get("RoleArn", "*"))
        case "AssumeRoot":
            return str(call.params.get("TargetPrincipal", "*"))
        case "GetAccessKeyLastUsed":
            return f"access key {call.params.get('AccessKeyId')}"
    if call.operation.service != "iam":
        return "*"
    user = call.account.users.get(call.target)
    if user is not None:
        return call.account.user_arn(user)
    plural = {"ListUsers": "user/", "ListAccessKeys": f"user {call.target}"}
    return call.account.arn(plural[call.operation.action]) if call.operation.action in plural else "*"
