"""STS: who am I, and sessions minted from keys.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/
"""

import re
from datetime import timedelta
from typing import Any, Literal

import msgspec

from sparekey.sandbox.cloudtrail_events import console_time
from sparekey.sandbox.errors import ErrorReplyError, invalid
from sparekey.sandbox.identity import CallerKind, IssuedSession, SessionIssuer
from sparekey.sandbox.permissions import TASKS, denied
from sparekey.sandbox.protocols import whole_number
from sparekey.sandbox.request import ApiCall, Handler
from sparekey.sandbox.state import SandboxAccount, SandboxRole

_HOUR = 3600
_ROOT_SECONDS = 900


def _mint(
    call: ApiCall,
    *,
    by: Literal["GetSessionToken", "GetFederationToken", "AssumeRole", "AssumeRoot"],
    account: SandboxAccount,
    seconds: int,
    kind: CallerKind,
    arn: str,
    principal_id: str,
    **more: Any,
) -> IssuedSession:
    """Make temporary credentials that the sandbox will know again."""
    company = call.company
    id_ = company.fresh("ASIA")
    session = IssuedSession(
        id=id_,
        secret=company.secret(id_),
        token=f"IQoJb3JpZ2lu{company.derive('token', id_, 96)}",
        account=account.id,
        minted_by=call.caller.key,
        by=by,
        created=call.now.replace(microsecond=0),
        expires=(call.now + timedelta(seconds=seconds)).replace(microsecond=0),
        kind=kind,
        arn=arn,
        principal_id=principal_id,
        **more,
    )
    company.sessions[id_] = session
    return session


def _credentials_element(session: IssuedSession) -> dict[str, Any]:
    """The credentials in CloudTrail's responseElements."""
    return {
        "accessKeyId": session.id,
        "sessionToken": session.token,
        "expiration": console_time(session.expires),
    }


def _credentials(session: IssuedSession) -> dict[str, Any]:
    return {
        "AccessKeyId": session.id,
        "SecretAccessKey": session.secret,
        "SessionToken": session.token,
        "Expiration": session.expires,
    }


def get_caller_identity(call: ApiCall) -> dict[str, Any]:
    """Nothing can deny this one."""
    return {"UserId": call.caller.principal_id, "Account": call.caller.account, "Arn": call.caller.arn}


def get_session_token(call: ApiCall) -> dict[str, Any]:
    """A session of the calling user, 12 hours unless asked otherwise; root's last an hour at most."""
    if call.caller.kind == "Root":
        raise denied(call)
    seconds = whole_number(call.params, "DurationSeconds", 12 * _HOUR, 900, 36 * _HOUR)
    mfa = bool(call.params.get("SerialNumber")) and bool(
        re.fullmatch(r"\d{6}", call.params.get("TokenCode", ""))
    )
    session = _mint(
        call,
        by="GetSessionToken",
        account=call.account,
        seconds=seconds,
        kind="IAMUser",
        arn=call.caller.arn,
        principal_id=call.caller.principal_id,
        user=call.caller.user,
        mfa=mfa,
    )
    call.response_elements = {"credentials": _credentials_element(session)}
    return {"Credentials": _credentials(session)}


def get_federation_token(call: ApiCall) -> dict[str, Any]:
    """A session for somebody else, by a long-term key only."""
    name = call.params.get("Name", "")
    if not re.fullmatch(r"[\w+=,.@-]{2,32}", name):
        raise invalid("1 validation error detected: Value at 'name' failed to satisfy constraint")
    if call.caller.kind != "IAMUser":
        raise denied(call)
    seconds = whole_number(call.params, "DurationSeconds", 12 * _HOUR, 900, 36 * _HOUR)
    session = _mint(
        call,
        by="GetFederationToken",
        account=call.account,
        seconds=seconds,
        kind="FederatedUser",
        arn=call.account.arn(f"federated-user/{name}", "sts"),
        principal_id=f"{call.account.id}:{name}",
        user=call.caller.user,
        issuer=SessionIssuer("IAMUser", call.caller.principal_id, call.caller.arn, call.caller.user),
    )
    federated = {"FederatedUserId": session.principal_id, "Arn": session.arn}
    call.response_elements = {
        "credentials": _credentials_element(session),
        "federatedUser": {"federatedUserId": session.principal_id, "arn": session.arn},
    }
    return {"Credentials": _credentials(session), "FederatedUser": federated, "PackedPolicySize": 0}


def _trusts(role: SandboxRole, call: ApiCall) -> bool:
    caller = call.caller
    accepted = {"*", caller.account, caller.arn, f"arn:{call.company.partition}:iam::{caller.account}:root"}
    if caller.session and caller.session.issuer:
        accepted.add(caller.session.issuer.arn)
    return bool(accepted.intersection(role.trust))


def assume_role(call: ApiCall) -> dict[str, Any]:
    """A session of a role of any account, where its trust and its external id let the caller in."""
    arn, name = call.params.get("RoleArn", ""), call.params.get("RoleSessionName", "")
    match = re.fullmatch(r"arn:([\w-]+):iam::(\d{12}):role(/(?:.*/)?)([\w+=,.@-]+)", arn)
    if not match or not re.fullmatch(r"[\w+=,.@-]{2,64}", name):
        raise invalid(f"{arn} or {name} is invalid")
    account = call.company.accounts.get(match[2])
    role = account.roles.get(match[4]) if account else None
    plain = ErrorReplyError(
        "AccessDenied",
        f"User: {call.caller.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}",
        403,
    )
    if call.caller.kind == "Root":
        raise ErrorReplyError("AccessDenied", "Roles may not be assumed by root accounts.", 403)
    if account is None or role is None or role.path != match[3] or match[1] != call.company.partition:
        raise plain
    wrong_id = role.external_id and call.params.get("ExternalId") != role.external_id
    if account.status != "ACTIVE" or wrong_id or not _trusts(role, call):
        raise plain
    seconds = whole_number(call.params, "DurationSeconds", _HOUR, 900, 12 * _HOUR)
    if call.caller.kind == "AssumedRole" and seconds > _HOUR:
        limit = "the 1 hour session limit for roles assumed by role chaining"
        raise invalid(f"The requested DurationSeconds exceeds {limit}")
    if seconds > role.max_session.total_seconds():
        raise invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    session = _mint(
        call,
        by="AssumeRole",
        account=account,
        seconds=seconds,
        kind="AssumedRole",
        arn=account.arn(f"assumed-role/{role.name}/{name}", "sts"),
        principal_id=f"{role.id}:{name}",
        role=role.name,
        issuer=SessionIssuer("Role", role.id, arn, role.name),
    )
    assumed = {"AssumedRoleId": session.principal_id, "Arn": session.arn}
    call.response_elements = {
        "credentials": _credentials_element(session),
        "assumedRoleUser": {"assumedRoleId": session.principal_id, "arn": session.arn},
    }
    call.resources = (("AWS::IAM::Role", arn),)
    _record_in_other_account(call, account)
    return {"Credentials": _credentials(session), "AssumedRoleUser": assumed}


def _record_in_other_account(call: ApiCall, account: SandboxAccount) -> None:
    """Both accounts record the call; a shared id joins the two events."""
    if account.id != call.caller.account:
        call.shared = call.company.uuid()
        copy = msgspec.structs.replace(call.event(), account=account.id, foreign=True)
        call.extra_events.append(copy)


def assume_root(call: ApiCall) -> dict[str, Any]:
    """A short session of a member account's root user, for one task."""
    organization = call.company.organization
    target = re.sub(r"^arn:[\w-]+:iam::(\d{12}):root$", r"\1", call.params.get("TargetPrincipal", ""))
    task = call.params.get("TaskPolicyArn.arn", "").rpartition("/")[2]
    seconds = whole_number(call.params, "DurationSeconds", _ROOT_SECONDS, 0, _ROOT_SECONDS)
    may = organization is not None and call.caller.account in {
        organization.management,
        *organization.delegated,
    }
    account = call.company.accounts.get(target)
    if organization is None or not may or not organization.root_access or account is None:
        raise denied(call)
    if target == organization.management or account.status != "ACTIVE":
        raise denied(call)
    if task not in TASKS:
        raise invalid(f"Invalid task policy {call.params.get('TaskPolicyArn.arn')}")
    session = _mint(
        call,
        by="AssumeRoot",
        account=account,
        seconds=seconds,
        kind="Root",
        arn=account.root_arn,
        principal_id=account.id,
        task=task,
    )
    call.response_elements = {"credentials": _credentials_element(session)}
    _record_in_other_account(call, account)
    return {"Credentials": _credentials(session)}


def get_access_key_info(call: ApiCall) -> dict[str, Any]:
    """The account of a key, for any caller."""
    id_ = call.params.get("AccessKeyId", "")
    credential = call.company.keys.get(id_) or call.company.sessions.get(id_)
    if credential is None:
        raise invalid(f"Invalid access key id {id_}")
    return {"Account": credential.account}


ACTIONS: dict[str, Handler] = {
    "AssumeRole": assume_role,
    "AssumeRoot": assume_root,
    "GetAccessKeyInfo": get_access_key_info,
    "GetCallerIdentity": get_caller_identity,
    "GetFederationToken": get_federation_token,
    "GetSessionToken": get_session_token,
}
