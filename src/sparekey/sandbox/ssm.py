"""SSM's Parameter Store: parameters with versions and labels, as strict as AWS.

Sources: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html and
https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html
"""

import base64
import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.request import ApiCall, Handler

if TYPE_CHECKING:
    from sparekey.sandbox.state import Company

_TYPES = ("String", "StringList", "SecureString")
_VERSIONS, _LONGEST_VALUE = 100, 4096
# What a SecureString is encrypted with where the caller names no key, whatever it was encrypted with before.
_DEFAULT_KEY = "alias/aws/ssm"


class ParameterVersion(msgspec.Struct, kw_only=True):
    """One version, numbered from 1."""

    number: int
    text: str
    kind: str
    created: datetime
    key: str = _DEFAULT_KEY


class StoredParameter(msgspec.Struct, kw_only=True):
    """A parameter of one account and region."""

    name: str
    arn: str
    versions: list[ParameterVersion]


def _failure(code: str, message: str = "") -> ErrorReplyError:
    return ErrorReplyError(code, message, 400)


def _parameters(call: ApiCall) -> dict[str, StoredParameter]:
    return call.company.parameters.setdefault(f"{call.caller.account}/{call.region}", {})


def _text(call: ApiCall, name: str) -> str:
    value = call.params.get(name)
    if not isinstance(value, str) or not value:
        raise _failure(
            "ValidationException", f"1 validation error detected: {name} must be a non-empty string"
        )
    return value


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[\w./-]{1,1011}", name, re.ASCII) or re.match(r"/?(aws|ssm)", name, re.IGNORECASE):
        raise _failure("ValidationException", f"{name} is not a valid name of a parameter")
    if "/" in name and not name.startswith("/"):
        raise _failure("ValidationException", "Parameter name must be a fully qualified name.")
    return name


def put_parameter(call: ApiCall) -> dict[str, Any]:
    """A parameter's first version, or with Overwrite its next one."""
    name, value = _checked_name(_text(call, "Name")), _text(call, "Value")
    if len(value.encode()) > _LONGEST_VALUE:
        raise _failure(
            "ValidationException",
            "Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger "
            "parameter value, upgrade the parameter to use the advanced-parameter tier.",
        )
    parameters = _parameters(call)
    known, kind = parameters.get(name), call.params.get("Type")
    if known is not None and call.params.get("Overwrite") is not True:
        raise _failure(
            "ParameterAlreadyExists",
            "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
        )
    if known is None and kind is None:
        raise _failure("ValidationException", "A parameter type is required when you create a parameter.")
    kind = kind or (known.versions[-1].kind if known else "")
    if kind not in _TYPES:
        raise _failure("ValidationException", "Type must be String, StringList or SecureString")
    if known is None:
        known = parameters[name] = _new_parameter(call.company, f"{call.caller.account}/{call.region}", name)
    number = known.versions[-1].number + 1 if known.versions else 1
    key = str(call.params.get("KeyId") or _DEFAULT_KEY)
    if key != _DEFAULT_KEY and kind != "SecureString":
        raise _failure("ValidationException", "KeyId is required for SecureString type parameter only.")
    known.versions.append(ParameterVersion(number=number, text=value, kind=kind, created=call.now, key=key))
    del known.versions[:-_VERSIONS]
    return {"Version": number, "Tier": "Standard"}


def _new_parameter(company: "Company", place: str, name: str) -> StoredParameter:
    account, _, region = place.partition("/")
    arn = f"arn:{company.partition}:ssm:{region}:{account}:parameter/{name.removeprefix('/')}"
    return StoredParameter(name=name, arn=arn, versions=[])


def add_parameter(company: "Company", place: str, name: str, text: str, now: datetime) -> None:
    """Put a SecureString with one version in a place (ACCOUNT/REGION), as if it had been there for long."""
    parameter = _new_parameter(company, place, name)
    parameter.versions.append(ParameterVersion(number=1, text=text, kind="SecureString", created=now))
    company.parameters.setdefault(place, {})[name] = parameter


def get_parameter(call: ApiCall) -> dict[str, Any]:
    """The newest version, or with NAME:VERSION that one; a SecureString is ciphertext unless it is to be decrypted."""
    name, _, selector = _text(call, "Name").partition(":")
    known = _parameters(call).get(name)
    if known is None:
        raise _failure("ParameterNotFound")
    version = known.versions[-1]
    if selector:
        found = [item for item in known.versions if str(item.number) == selector]
        if not found:
            raise _failure(
                "ParameterVersionNotFound",
                f"Systems Manager could not find version {selector} of {name}. Verify the version and try again.",
            )
        version = found[0]
    text = version.text
    if version.kind == "SecureString" and call.params.get("WithDecryption") is not True:
        text = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    parameter = {
        "Name": name,
        "Type": version.kind,
        "Value": text,
        "Version": version.number,
        "LastModifiedDate": version.created.timestamp(),
        "ARN": known.arn,
        "DataType": "text",
    }
    return {"Parameter": {**parameter, **({"Selector": f":{selector}"} if selector else {})}}


def delete_parameter(call: ApiCall) -> dict[str, Any]:
    """Delete a parameter with all its versions."""
    if _parameters(call).pop(_text(call, "Name"), None) is None:
        raise _failure("ParameterNotFound")
    return {}


def describe_parameters(call: ApiCall) -> dict[str, Any]:
    """The parameters that match all filters by name, without their values."""
    names: set[str] | None = None
    for item in call.params.get("ParameterFilters") or []:
        if item.get("Key") != "Name" or item.get("Option", "Equals") != "Equals":
            raise _failure(
                "InvalidFilterKey", "this practice AWS filters by Name alone, with the option Equals"
            )
        names = set(item["Values"]) if names is None else names & set(item["Values"])
    listed = [item for name, item in sorted(_parameters(call).items()) if names is None or name in names]
    return {"Parameters": [_metadata(item) for item in listed[:50]]}


def _metadata(item: StoredParameter) -> dict[str, Any]:
    last = item.versions[-1]
    key = {"KeyId": last.key} if last.kind == "SecureString" else {}
    return {
        "Name": item.name,
        "ARN": item.arn,
        "Type": last.kind,
        "Version": last.number,
        "LastModifiedDate": last.created.timestamp(),
        "Tier": "Standard",
        "DataType": "text",
        **key,
    }


ACTIONS: dict[str, Handler] = {
    "DeleteParameter": delete_parameter,
    "DescribeParameters": describe_parameters,
    "GetParameter": get_parameter,
    "PutParameter": put_parameter,
}
