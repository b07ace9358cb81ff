"""Secrets Manager: secrets with versions and staging labels, as strict as AWS.

Sources: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_Operations.html and
https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
"""

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.request import ApiCall, Handler

if TYPE_CHECKING:
    from sparekey.sandbox.state import Company

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
# Of unlabelled versions so many are kept, and all that are younger than a day.
_VERSIONS, _KEPT_FOR = 100, timedelta(hours=24)
_STAGES_OF_A_VERSION = 20
_LONGEST_VALUE = 65_536


class SecretVersion(msgspec.Struct, kw_only=True):
    """One version; without a label it is deprecated and may be removed."""

    id: str
    text: str
    created: datetime
    stages: list[str]


class StoredSecret(msgspec.Struct, kw_only=True):
    """A secret of one account and region."""

    name: str
    arn: str
    created: datetime
    versions: dict[str, SecretVersion]
    rotates: bool = False


def _failure(code: str, message: str) -> ErrorReplyError:
    return ErrorReplyError(code, message, 400)


def _secrets(call: ApiCall) -> dict[str, StoredSecret]:
    return call.company.secrets.setdefault(f"{call.caller.account}/{call.region}", {})


def _text(call: ApiCall, name: str, *, required: bool = True) -> str:
    value = call.params.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not value:
        raise _failure(
            "ValidationException", f"1 validation error detected: {name} must be a non-empty string"
        )
    return value


def _secret(call: ApiCall) -> StoredSecret:
    id_ = _text(call, "SecretId")
    for secret in _secrets(call).values():
        # An ARN may lack the six characters that AWS adds.
        if id_ in (secret.name, secret.arn, secret.arn[:-7]):
            return secret
    raise _failure("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


def _token(call: ApiCall) -> str:
    token = _text(call, "ClientRequestToken", required=False)
    if not token:
        raise _failure(
            "InvalidRequestException",
            "You must provide a ClientRequestToken value. We recommend a UUID-type value.",
        )
    if not 32 <= len(token) <= 64:
        raise _failure("InvalidParameterException", "ClientRequestToken must be 32-64 characters long.")
    return token


def _value(call: ApiCall) -> str:
    value = _text(call, "SecretString", required=False)
    if not value:
        raise _failure("InvalidRequestException", "You must provide either SecretString or SecretBinary.")
    if len(value.encode()) > _LONGEST_VALUE:
        raise _failure("ValidationException", f"SecretString is longer than {_LONGEST_VALUE} bytes")
    return value


def _stages(call: ApiCall) -> list[str]:
    stages = call.params.get("VersionStages", [CURRENT])
    if not isinstance(stages, list) or not stages or len(stages) > _STAGES_OF_A_VERSION:
        raise _failure("ValidationException", "VersionStages must have 1 to 20 labels")
    if not all(isinstance(stage, str) and 0 < len(stage) <= 256 for stage in stages):
        raise _failure("ValidationException", "a staging label has 1 to 256 characters")
    return stages


def _move(secret: StoredSecret, stage: str, to: SecretVersion) -> None:
    """Attach a label; AWSPREVIOUS follows where AWSCURRENT was."""
    for version in secret.versions.values():
        if stage in version.stages and version is not to:
            version.stages.remove(stage)
            if stage == CURRENT:
                for other in secret.versions.values():
                    if PREVIOUS in other.stages:
                        other.stages.remove(PREVIOUS)
                version.stages.append(PREVIOUS)
    if stage not in to.stages:
        to.stages.append(stage)
    if stage == CURRENT and PREVIOUS in to.stages:
        to.stages.remove(PREVIOUS)


def _forget_old_versions(secret: StoredSecret, now: datetime) -> None:
    deprecated = [version for version in secret.versions.values() if not version.stages]
    for version in deprecated[: max(0, len(secret.versions) - _VERSIONS)]:
        if now - version.created >= _KEPT_FOR:
            del secret.versions[version.id]


def create_secret(call: ApiCall) -> dict[str, Any]:
    """A secret, with a first version where a value is given."""
    name = _text(call, "Name")
    if not re.fullmatch(r"[\w/+=.@-]{1,512}", name, re.ASCII):
        raise _failure(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        )
    secrets = _secrets(call)
    if name in secrets:
        known = secrets[name].versions.get(call.params.get("ClientRequestToken", ""))
        if known is None or known.text != call.params.get("SecretString"):
            raise _failure(
                "ResourceExistsException", f"The operation failed because the secret {name} already exists."
            )
        return {"ARN": secrets[name].arn, "Name": name, "VersionId": known.id}
    secret = _new_secret(call.company, f"{call.caller.account}/{call.region}", name, call.now)
    answer = {"ARN": secret.arn, "Name": name}
    if call.params.get("SecretString") is not None:
        version = SecretVersion(id=_token(call), text=_value(call), created=call.now, stages=[CURRENT])
        secret.versions[version.id] = version
        answer["VersionId"] = version.id
    secrets[name] = secret
    return answer


def _new_secret(company: "Company", place: str, name: str, now: datetime) -> StoredSecret:
    account, _, region = place.partition("/")
    arn = f"arn:{company.partition}:secretsmanager:{region}:{account}:secret:{name}-{company.uuid()[:6]}"
    return StoredSecret(name=name, arn=arn, created=now, versions={})


def add_secret(company: "Company", place: str, name: str, text: str, now: datetime) -> None:
    """Put a secret with one version in a place (ACCOUNT/REGION), as if it had been there for long."""
    secret = _new_secret(company, place, name, now)
    version = SecretVersion(id=company.uuid(), text=text, created=now, stages=[CURRENT])
    secret.versions[version.id] = version
    company.secrets.setdefault(place, {})[name] = secret


def put_secret_value(call: ApiCall) -> dict[str, Any]:
    """A new version; the same token with the same value changes nothing, with another value it is refused."""
    secret, token, value, stages = _secret(call), _token(call), _value(call), _stages(call)
    version = secret.versions.get(token)
    if version is not None and version.text != value:
        raise _failure(
            "ResourceExistsException",
            f"A resource with the ID {token} already exists: the value of a version cannot be changed.",
        )
    if version is None:
        version = SecretVersion(id=token, text=value, created=call.now, stages=[])
        secret.versions[token] = version
        for stage in stages if len(secret.versions) > 1 else dict.fromkeys([*stages, CURRENT]):
            _move(secret, stage, version)
        _forget_old_versions(secret, call.now)
    return {"ARN": secret.arn, "Name": secret.name, "VersionId": token, "VersionStages": list(version.stages)}


def get_secret_value(call: ApiCall) -> dict[str, Any]:
    """The value of a version, by default of the one labelled AWSCURRENT."""
    secret = _secret(call)
    id_ = _text(call, "VersionId", required=False)
    stage = _text(call, "VersionStage", required=False) or ("" if id_ else CURRENT)
    for version in secret.versions.values():
        if id_ in ("", version.id) and (not stage or stage in version.stages):
            return {
                "ARN": secret.arn,
                "Name": secret.name,
                "VersionId": version.id,
                "SecretString": version.text,
                "VersionStages": list(version.stages),
                "CreatedDate": version.created.timestamp(),
            }
    what = f"VersionId: {id_}" if id_ else f"staging label: {stage}"
    raise _failure(
        "ResourceNotFoundException", f"Secrets Manager can't find the specified secret value for {what}"
    )


def describe_secret(call: ApiCall) -> dict[str, Any]:
    """A secret's versions and their labels, without a value."""
    secret = _secret(call)
    return {
        "ARN": secret.arn,
        "Name": secret.name,
        "CreatedDate": secret.created.timestamp(),
        **({"RotationEnabled": True} if secret.rotates else {}),
        "VersionIdsToStages": {
            version.id: list(version.stages) for version in secret.versions.values() if version.stages
        },
    }


def update_secret_version_stage(call: ApiCall) -> dict[str, Any]:
    """Move a label, or take it away; AWSCURRENT can only be moved, and from the version that the caller names."""
    secret, stage = _secret(call), _text(call, "VersionStage")
    to = _text(call, "MoveToVersionId", required=False)
    gone = _text(call, "RemoveFromVersionId", required=False)
    holder = next((version for version in secret.versions.values() if stage in version.stages), None)
    for id_ in (to, gone):
        if id_ and id_ not in secret.versions:
            raise _failure("InvalidParameterException", f"Not a valid version: {id_}")
    if gone and (holder is None or holder.id != gone):
        raise _failure(
            "InvalidParameterException", f"Staging label {stage} isn't currently attached to version {gone}"
        )
    if to and not gone and holder is not None and holder.id != to:
        raise _failure(
            "InvalidParameterException",
            f"The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to version "
            f"{holder.id}, so you must explicitly reference that version in RemoveFromVersionId.",
        )
    if not to and stage == CURRENT:
        raise _failure(
            "InvalidParameterException",
            "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.",
        )
    if to:
        _move(secret, stage, secret.versions[to])
    elif holder is not None:
        holder.stages.remove(stage)
    return {"ARN": secret.arn, "Name": secret.name}


ACTIONS: dict[str, Handler] = {
    "CreateSecret": create_secret,
    "DescribeSecret": describe_secret,
    "GetSecretValue": get_secret_value,
    "PutSecretValue": put_secret_value,
    "UpdateSecretVersionStage": update_secret_version_stage,
}
