"""IAM: users, access keys and the account's summary.

Source: https://docs.aws.amazon.com/IAM/latest/APIReference/
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from sparekey.sandbox import credential_report
from sparekey.sandbox.cloudtrail_events import console_time
from sparekey.sandbox.errors import ErrorReplyError, invalid, no_such
from sparekey.sandbox.permissions import decide, denied
from sparekey.sandbox.protocols import MapEntries, members, whole_number
from sparekey.sandbox.request import ApiCall, Handler
from sparekey.sandbox.state import SandboxKey, SandboxUser

T = TypeVar("T")
_KEYS_PER_USER = 2
_STATUSES = ("Active", "Inactive")


def _page(call: ApiCall, entries: Sequence[T], name_of: Callable[[T], str]) -> tuple[list[T], dict[str, Any]]:
    """One page of a sorted list, and the fields that name a next one."""
    size = call.faults.page_size(call, whole_number(call.params, "MaxItems", 100, 1, 1000))
    start = 0
    marker = call.params.get("Marker")
    if marker is not None:
        try:
            last = base64.b64decode(marker, altchars=b"-_", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise invalid("Invalid Marker.") from None
        start = next((at for at, entry in enumerate(entries) if name_of(entry) > last), len(entries))
    page = list(entries[start : start + size])
    if start + size >= len(entries):
        return page, {"IsTruncated": False}
    following = base64.urlsafe_b64encode(name_of(page[-1]).encode()).decode()
    return page, {"IsTruncated": True, "Marker": following}


def _user(call: ApiCall, as_of: datetime | None = None) -> SandboxUser:
    """The user that the request names, or the caller's own."""
    name = call.params.get("UserName") or call.caller.user
    if not name:
        raise invalid("Must specify userName when calling with non-User credentials")
    _check_name(name, "userName", 128)
    user = call.account.user_at(name, as_of or call.now)
    if user is None:
        raise no_such(f"The user with name {name} cannot be found.")
    return user


def _check_name(name: str, parameter: str, longest: int) -> None:
    if not (len(name) <= longest and re.fullmatch(r"[\w+=,.@-]+", name, re.ASCII)):
        raise invalid(
            f"The specified value for {parameter} is invalid. "
            "It must contain only alphanumeric characters and/or the following: +=,.@_-"
        )


def _check_path(path: str, parameter: str) -> None:
    if not re.fullmatch(r"/|/[\x21-\x7e]{1,510}/", path):
        raise invalid(
            f"The specified value for {parameter} is invalid. "
            "It must begin and end with / and contain only alphanumeric characters and/or / characters."
        )


def _user_element(call: ApiCall, user: SandboxUser, when: datetime | None = None) -> dict[str, Any]:
    name, path = user.called_at(when or call.now)
    return {
        "Path": path,
        "UserName": name,
        "UserId": user.id,
        "Arn": call.account.user_arn(user, when),
        "CreateDate": user.created,
    }


def list_users(call: ApiCall) -> dict[str, Any]:
    """Users in the order of their names."""
    prefix = call.params.get("PathPrefix", "/")
    as_of = call.faults.as_of(call)
    everyone = [*call.account.users.values(), *call.account.former_users]
    users = sorted(
        (user for user in everyone if user.exists_at(as_of) and user.called_at(as_of)[1].startswith(prefix)),
        key=lambda user: user.called_at(as_of)[0],
    )
    page, more = _page(call, users, lambda user: user.called_at(as_of)[0])
    return {"Users": [_user_element(call, user, as_of) for user in page], **more}


def get_user(call: ApiCall) -> dict[str, Any]:
    """One user; the root user where root asks of itself."""
    if call.caller.kind == "Root" and "UserName" not in call.params:
        account = call.account
        return {
            "User": {"Path": "/", "UserId": account.id, "Arn": account.root_arn, "CreateDate": account.joined}
        }
    as_of = call.faults.as_of(call)
    return {"User": _user_element(call, _user(call, as_of), as_of)}


def get_role(call: ApiCall) -> dict[str, Any]:
    """One role with its trust policy, in percent-encoded JSON as IAM returns it.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html
    """
    role = call.account.roles.get(call.params.get("RoleName", ""))
    if role is None:
        raise ErrorReplyError(
            "NoSuchEntity", f"The role with name {call.params.get('RoleName')} cannot be found.", 404
        )
    condition = (
        {"Condition": {"StringEquals": {"sts:ExternalId": role.external_id}}} if role.external_id else {}
    )
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {_principal_kind(trusted): trusted},
                "Action": "sts:AssumeRole",
                **condition,
            }
            for trusted in role.trust
        ],
    }
    return {
        "Role": {
            "Path": role.path,
            "RoleName": role.name,
            "RoleId": role.id,
            "Arn": call.account.arn(f"role{role.path}{role.name}"),
            "CreateDate": call.account.joined,
            "AssumeRolePolicyDocument": quote(json.dumps(trust), safe=""),
            "MaxSessionDuration": int(role.max_session.total_seconds()),
        }
    }


def _principal_kind(trusted: str) -> str:
    if ":saml-provider/" in trusted or ":oidc-provider/" in trusted:
        return "Federated"
    return "Service" if trusted.endswith(".amazonaws.com") else "AWS"


def create_user(call: ApiCall) -> dict[str, Any]:
    """A new user; names differ by more than case."""
    name, path = call.params.get("UserName", ""), call.params.get("Path", "/")
    if any(name.lower() == existing.lower() for existing in call.account.users):
        raise ErrorReplyError("EntityAlreadyExists", f"User with name {name} already exists.", 409)
    user = SandboxUser(
        name=name,
        path=path,
        id=call.company.fresh("AIDA"),
        account=call.account.id,
        created=call.now.replace(microsecond=0),
        known_from=call.now,
        keys=[],
    )
    call.account.users[name] = user
    call.response_elements = {
        "user": {"path": path, "userName": name, "userId": user.id, "arn": call.account.user_arn(user)}
    }
    return {"User": _user_element(call, user)}


def update_user(call: ApiCall) -> None:
    """A new name, a new path or both; keys, id and creation are kept, the old name is nobody's.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateUser.html
    """
    if not call.params.get("UserName"):
        raise invalid(
            "1 validation error detected: Value null at 'userName' failed to satisfy constraint: "
            "Member must not be null"
        )
    user = _user(call)
    name, path = call.params.get("NewUserName", user.name), call.params.get("NewPath", user.path)
    _check_name(name, "newUserName", 64)
    _check_path(path, "newPath")
    others = (known for known in call.account.users.values() if known is not user)
    if any(name.lower() == other.name.lower() for other in others):
        raise ErrorReplyError("EntityAlreadyExists", f"User with name {name} already exists.", 409)
    call.resources = (("AWS::IAM::User", user.name),)
    if (name, path) == (user.name, user.path):
        return
    del call.account.users[user.name]
    user.rename(name, path, call.now)
    call.account.users[name] = user
    if user not in call.account.renamed:
        call.account.renamed.append(user)


def delete_user(call: ApiCall) -> None:
    """Refused while the user has keys or policies."""
    user = _user(call)
    if any(key.exists_at(call.now) for key in user.keys):
        raise ErrorReplyError("DeleteConflict", "Cannot delete entity, must delete access keys first.", 409)
    if user.policies:
        raise ErrorReplyError("DeleteConflict", "Cannot delete entity, must detach all policies first.", 409)
    user.deleted = call.now
    call.account.former_users.append(call.account.users.pop(user.name))


def _own_root_keys(call: ApiCall) -> bool:
    """Whether a root session concerns the root user's own keys."""
    return call.caller.kind == "Root" and not call.params.get("UserName")


def list_access_keys(call: ApiCall) -> dict[str, Any]:
    """A user's keys; without a name those of the caller."""
    as_of = call.faults.as_of(call)
    owner = [] if _own_root_keys(call) else [_user(call, as_of)]
    keys = owner[0].keys if owner else call.account.root_keys
    present = [key for key in keys if key.exists_at(as_of)]
    order = {key.id: f"{at:06}" for at, key in enumerate(present)}
    page, more = _page(call, present, lambda key: order[key.id])
    name = {"UserName": owner[0].called_at(as_of)[0]} if owner else {}
    elements = [
        {**name, "AccessKeyId": key.id, "Status": key.status_at(as_of), "CreateDate": key.created}
        for key in page
    ]
    return {"AccessKeyMetadata": elements, **more}


def _key(call: ApiCall) -> SandboxKey:
    """The key that the request names, of the user that it names or of the caller; raises AwsError."""
    id_ = call.params.get("AccessKeyId")
    if not id_:
        raise invalid(
            "1 validation error detected: Value null at 'accessKeyId' failed to satisfy constraint: "
            "Member must not be null"
        )
    keys = call.account.root_keys if _own_root_keys(call) else _user(call).keys
    key = next((key for key in keys if key.id == id_ and key.exists_at(call.now)), None)
    if key is None:
        raise no_such(f"The Access Key with id {id_} cannot be found.")
    return key


def update_access_key(call: ApiCall) -> None:
    """Set a key's status to Active or Inactive."""
    status = call.params.get("Status")
    if status not in _STATUSES:
        raise invalid(
            f"1 validation error detected: Value '{status}' at 'status' failed to satisfy constraint: "
            "Member must satisfy enum value set: [Active, Inactive]"
        )
    key = _key(call)
    if key.status == "Expired":
        raise invalid("The status of an expired access key cannot be changed.")
    call.resources = key_resources(key)
    if not call.faults.ignores_update(call):
        key.change(status, call.now)


def key_resources(key: SandboxKey) -> tuple[tuple[str, str], ...]:
    """What CloudTrail reports that a call is about."""
    return ("AWS::IAM::AccessKey", key.id), ("AWS::IAM::User", key.user or "root")


def created_element(key: SandboxKey) -> dict[str, Any]:
    """A new key in CloudTrail's responseElements."""
    element = {
        "userName": key.user,
        "accessKeyId": key.id,
        "status": "Active",
        "createDate": console_time(key.created),
    }
    return {"accessKey": element}


def create_access_key(call: ApiCall) -> dict[str, Any]:
    """A new key, the secret in the answer only."""
    user = _user(call)
    if len([key for key in user.keys if key.exists_at(call.now)]) >= _KEYS_PER_USER:
        raise ErrorReplyError(
            "LimitExceeded", f"Cannot exceed quota for AccessKeysPerUser: {_KEYS_PER_USER}", 409
        )
    id_ = call.company.fresh("AKIA")
    created = call.now.replace(microsecond=0)
    key = call.company.add_key(
        SandboxKey(
            id=id_,
            secret=call.company.secret(id_),
            account=call.account.id,
            user=user.name,
            created=created,
            statuses=[(call.now, "Active")],
            rotated=created,
            known_from=call.now,
        )
    )
    call.resources = key_resources(key)
    call.response_elements = created_element(key)
    return {
        "AccessKey": {
            "UserName": user.name,
            "AccessKeyId": id_,
            "Status": "Active",
            "SecretAccessKey": key.secret,
            "CreateDate": created,
        }
    }


def delete_access_key(call: ApiCall) -> None:
    """Gone for good, whatever its status."""
    key = _key(call)
    call.resources = key_resources(key)
    key.deleted = call.now


def get_access_key_last_used(call: ApiCall) -> dict[str, Any]:
    """A key's last use; a key that is not of this account is denied."""
    key = call.company.keys.get(str(call.params.get("AccessKeyId")))
    if key is None or key.account != call.account.id or not key.exists_at(call.now):
        raise denied(call)
    use = key.last_used(call.faults.last_used_until(call))
    element: dict[str, Any] = {"ServiceName": "N/A", "Region": "N/A"}
    if use is not None:
        element = {"LastUsedDate": use.at, "ServiceName": use.service, "Region": use.region}
    name = {"UserName": key.user} if key.user else {}
    return {**name, "AccessKeyLastUsed": element}


# The managed policies that the practice AWS knows: those by which AWS marks a user's key as leaked.
QUARANTINES = (
    "AWSCompromisedKeyQuarantine",
    "AWSCompromisedKeyQuarantineV2",
    "AWSCompromisedKeyQuarantineV3",
)


def list_entities_for_policy(call: ApiCall) -> dict[str, Any]:
    """The users that a managed policy is attached to, in the order of their names.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListEntitiesForPolicy.html
    """
    arn = call.params.get("PolicyArn", "")
    name = arn.removeprefix(f"arn:{call.company.partition}:iam::aws:policy/")
    if name not in QUARANTINES:
        raise no_such(f"Policy {arn} does not exist or is not attachable.")
    kind = call.params.get("EntityFilter", "User")
    if kind not in ("User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"):
        raise invalid(
            f"1 validation error detected: Value '{kind}' at 'entityFilter' failed to satisfy constraint: "
            "Member must satisfy enum value set: [User, Role, Group, LocalManagedPolicy, AWSManagedPolicy]"
        )
    users = [user for user in call.account.users.values() if name in user.policies and kind == "User"]
    page, more = _page(call, sorted(users, key=lambda user: user.name), lambda user: user.name)
    elements = [{"UserName": user.name, "UserId": user.id} for user in page]
    return {"PolicyGroups": [], "PolicyUsers": elements, "PolicyRoles": [], **more}


def list_account_aliases(call: ApiCall) -> dict[str, Any]:
    """The account's alias, if it has one."""
    return {"AccountAliases": [call.account.alias] if call.account.alias else [], "IsTruncated": False}


def get_account_summary(call: ApiCall) -> dict[str, Any]:
    """Counts and quotas; AccountAccessKeysPresent is 0 or 1 however many keys the root user has."""
    root_keys = any(key.exists_at(call.now) for key in call.account.root_keys)
    summary = MapEntries(
        Users=len(call.account.users),
        UsersQuota=5000,
        Roles=len(call.account.roles),
        RolesQuota=1000,
        AccessKeysPerUserQuota=_KEYS_PER_USER,
        AccountAccessKeysPresent=int(root_keys),
        AccountMFAEnabled=1,
        AccountPasswordPresent=1,
        MFADevices=1,
        MFADevicesInUse=1,
    )
    return {"SummaryMap": summary}


def simulate_principal_policy(call: ApiCall) -> dict[str, Any]:
    """What the scenario would answer to these actions."""
    arn = call.params.get("PolicySourceArn", "")
    match = re.fullmatch(r"arn:[\w-]+:iam::(\d{12}):(user|role)/(?:.*/)?([^/]+)", arn)
    if not match:
        raise ErrorReplyError(
            "InvalidInput", f"Invalid Entity Arn: {arn} does not clearly define entity type and name.", 400
        )
    role, name = match[2] == "role", match[3]
    holders = call.account.roles if role else call.account.users
    if match[1] != call.account.id or name not in holders:
        raise no_such(f"The {match[2]} with name {name} cannot be found.")
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": decide(call.faults, call.account, name, action, role=role),
            "MatchedStatements": [],
            "MissingContextValues": [],
        }
        for action in members(call.params, "ActionNames")
        for resource in members(call.params, "ResourceArns") or ["*"]
    ]
    order = {id(result): f"{at:06}" for at, result in enumerate(results)}
    page, more = _page(call, results, lambda result: order[id(result)])
    return {"EvaluationResults": page, **more}


ACTIONS: dict[str, Handler] = {
    "CreateAccessKey": create_access_key,
    "CreateUser": create_user,
    "DeleteAccessKey": delete_access_key,
    "DeleteUser": delete_user,
    "GenerateCredentialReport": credential_report.generate,
    "GetAccessKeyLastUsed": get_access_key_last_used,
    "GetAccountSummary": get_account_summary,
    "GetCredentialReport": credential_report.get,
    "GetRole": get_role,
    "GetUser": get_user,
    "ListAccessKeys": list_access_keys,
    "ListAccountAliases": list_account_aliases,
    "ListEntitiesForPolicy": list_entities_for_policy,
    "ListUsers": list_users,
    "SimulatePrincipalPolicy": simulate_principal_policy,
    "UpdateAccessKey": update_access_key,
    "UpdateUser": update_user,
}
