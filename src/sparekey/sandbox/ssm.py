"""SSM's Parameter Store: parameters with versions and labels, as strict as AWS.

Sources: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html and
https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html
"""

import base64
import hashlib
import re
from datetime import datetime
from typing import Any

import msgspec

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.request import ApiCall, Handler

_TYPES = ("String", "StringList", "SecureString")
_VERSIONS, _LONGEST_VALUE = 100, 4096


class ParameterVersion(msgspec.Struct, kw_only=True):
    """One version, numbered from 1."""

    number: int
    text: str
    kind: str
    created: datetime


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
        place = f"{call.company.partition}:ssm:{call.region}:{call.caller.account}"
        arn = f"arn:{place}:parameter/{name.removeprefix('/')}"
        known = parameters[name] = StoredParameter(name=name, arn=arn, versions=[])
    number = known.versions[-1].number + 1 if known.versions else 1
    known.versions.append(ParameterVersion(number=number, text=value, kind=kind, created=call.now))
    del known.versions[:-_VERSIONS]
    return {"Version": number, "Tier": "Standard"}


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


ACTIONS: dict[str, Handler] = {
    "GetParameter": get_parameter,
    "PutParameter": put_parameter,
}
