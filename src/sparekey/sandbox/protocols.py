"""AWS's wire protocols: requests taken apart, answers and errors put together."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import msgspec

from sparekey.sandbox.errors import ErrorReplyError, invalid

Protocol = Literal["query", "ec2", "json", "rest-json", "s3"]
PROTOCOLS: dict[str, Protocol] = {
    "iam": "query",
    "sts": "query",
    "ec2": "ec2",
    "organizations": "json",
    "cloudtrail": "json",
    "secretsmanager": "json",
    "sqs": "json",
    "ssm": "json",
    "account": "rest-json",
    "s3": "s3",
}
_TARGETS = {
    "AWSOrganizationsV20161128": "organizations",
    "CloudTrail_20131101": "cloudtrail",
    "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101": "cloudtrail",
    "AmazonSQS": "sqs",
    "AmazonSSM": "ssm",
    "secretsmanager": "secretsmanager",
}
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACES = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
}
# One failure has another name in each protocol: the generic code to (code, HTTP status, message).
_JSON_WORDS: dict[str, tuple[str, int, str | None]] = {
    "InvalidClientTokenId": ("UnrecognizedClientException", 400, None),
    "SignatureDoesNotMatch": ("InvalidSignatureException", 400, None),
    "ExpiredToken": ("ExpiredTokenException", 400, None),
    "MissingAuthenticationToken": (
        "MissingAuthenticationTokenException",
        400,
        "Missing Authentication Token",
    ),
    "IncompleteSignature": ("IncompleteSignatureException", 400, None),
    "AccessDenied": ("AccessDeniedException", 400, None),
    "Throttling": ("ThrottlingException", 400, None),
    "ServiceFailure": ("InternalFailure", 500, None),
    "InvalidAction": ("UnknownOperationException", 400, ""),
}
_EC2_WORDS: dict[str, tuple[str, int, str | None]] = {
    "InvalidClientTokenId": (
        "AuthFailure",
        401,
        "AWS was not able to validate the provided access credentials",
    ),
    "SignatureDoesNotMatch": (
        "AuthFailure",
        401,
        "AWS was not able to validate the provided access credentials",
    ),
    "ExpiredToken": ("RequestExpired", 400, "Request has expired."),
    "MissingAuthenticationToken": (
        "MissingParameter",
        400,
        "The request must contain the parameter AWSAccessKeyId",
    ),
    "AccessDenied": ("UnauthorizedOperation", 403, "You are not authorized to perform this operation."),
    "Throttling": ("RequestLimitExceeded", 503, "Request limit exceeded."),
    "ServiceFailure": ("InternalError", 500, "An internal error has occurred"),
}
_S3_WORDS: dict[str, tuple[str, int, str | None]] = {
    "InvalidClientTokenId": (
        "InvalidAccessKeyId",
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", 403, None),
    "ExpiredToken": ("ExpiredToken", 400, "The provided token has expired."),
    "MissingAuthenticationToken": ("AccessDenied", 403, "Access Denied"),
    "Throttling": ("SlowDown", 503, "Please reduce your request rate."),
    "ServiceFailure": ("InternalError", 500, "We encountered an internal error. Please try again."),
}
_WORDS: dict[Protocol, dict[str, tuple[str, int, str | None]]] = {
    "query": {},
    "ec2": _EC2_WORDS,
    "json": _JSON_WORDS,
    "rest-json": {**_JSON_WORDS, "AccessDenied": ("AccessDeniedException", 403, None)},
    "s3": _S3_WORDS,
}


_SERVICE_WORDS: dict[str, dict[str, tuple[str, int, str | None]]] = {
    "organizations": {
        "Throttling": (
            "TooManyRequestsException",
            400,
            "You have sent too many requests in too short a period of time.",
        )
    }
}


_Epoch = Annotated[float, msgspec.Meta(ge=0, lt=2**35)]
_JSON_TYPES: dict[str, Any] = {
    "ChildType": str,
    "EndTime": _Epoch,
    "LookupAttributes": list[dict[str, str]],
    "MaxResults": int,
    "MessageBody": str,
    "NextToken": str,
    "ParentId": str,
    "QueueUrl": str,
    "RegionOptStatusContains": list[str],
    "ResourceId": str,
    "StartTime": _Epoch,
}


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request as it came: `path` and `query` still encoded, header names in lower case."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""
    client: str = "127.0.0.1"


class RawResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP answer; `delay` is how many seconds it is to be held back."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    delay: float = 0.0


class OperationRequest(msgspec.Struct, frozen=True):
    """What a request asks for: the service, the action and its parameters (flat in the query protocol)."""

    service: str
    action: str
    params: dict[str, Any]


class MapEntries(dict[str, object]):
    """A map that the query protocol writes as `<entry><key/><value/></entry>`."""


def read_operation(request: RawRequest, service: str) -> OperationRequest:
    """The operation of a request, `service` being the one it is signed for; raises AwsError."""
    match PROTOCOLS[service]:
        case "query" | "ec2":
            pairs = parse_qsl(request.query, keep_blank_values=True)
            pairs += parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
            params: dict[str, Any] = dict(pairs)
            action = params.pop("Action", "")
            params.pop("Version", "")
            if not action:
                raise ErrorReplyError("MissingAction", "Missing Action", 400)
            return OperationRequest(service, action, params)
        case "json":
            action = request.headers.get("x-amz-target", "").rpartition(".")[2]
            return OperationRequest(service, action, _json_body(request.body))
        case "rest-json":
            name = request.path.strip("/")
            return OperationRequest(service, name[:1].upper() + name[1:], _json_body(request.body))
        case _:
            return OperationRequest(service, "", {})


def guess_service(request: RawRequest) -> str:
    """A service to answer for where the request is not signed, or for one that is not here."""
    target = request.headers.get("x-amz-target")
    if target is not None:
        return _TARGETS.get(target.rpartition(".")[0], "cloudtrail")
    return "iam" if b"2010-05-08" in request.body else "sts"


def target_matches(request: RawRequest, service: str) -> bool:
    """Whether the target header names the service that the request is signed for."""
    return _TARGETS.get(request.headers.get("x-amz-target", "").rpartition(".")[0]) == service


def members(params: Mapping[str, str], name: str) -> list[str]:
    """A list of the query protocol: Name.member.1, Name.member.2 and so on."""
    values: list[str] = []
    while (value := params.get(f"{name}.member.{len(values) + 1}")) is not None:
        values.append(value)
    return values


def whole_number(params: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A bounded number; raises AwsError as AWS words it."""
    text = params.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except (TypeError, ValueError):
        raise invalid(
            f"1 validation error detected: Value '{text}' at '{_lower(name)}' is no integer"
        ) from None
    if not low <= value <= high:
        limit = f"greater than or equal to {low}" if value < low else f"less than or equal to {high}"
        raise invalid(
            f"1 validation error detected: Value '{value}' at '{_lower(name)}' failed to satisfy constraint: "
            f"Member must have value {limit}"
        )
    return value


def render_response(
    operation: OperationRequest, result: dict[str, Any] | None, request_id: str
) -> RawResponse:
    """A success in the words of the service's protocol."""
    action, ids = operation.action, {"x-amzn-RequestId": request_id}
    match PROTOCOLS[operation.service]:
        case "query":
            inner = "" if result is None else f"<{action}Result>{_xml(result)}</{action}Result>"
            meta = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
            namespace = _NAMESPACES[operation.service]
            body = f'<{action}Response xmlns="{namespace}">{inner}{meta}</{action}Response>'
            return _response(200, "text/xml", body.encode(), ids)
        case "ec2":
            inner = f"<requestId>{request_id}</requestId>{_xml(result or {}, 'item')}"
            body = f'<{action}Response xmlns="{_NAMESPACES["ec2"]}">{inner}</{action}Response>'
            return _response(200, "text/xml;charset=UTF-8", body.encode(), ids)
        case "json" | "rest-json":
            return _response(200, _json_kind(operation.service), _json(result or {}), ids)
        case _:
            raise AssertionError("S3 writes its own answers")


def render_error(service: str, error: ErrorReplyError, request_id: str) -> RawResponse:
    """An error in the words of the service's protocol."""
    protocol = PROTOCOLS[service]
    words = _WORDS[protocol] | _SERVICE_WORDS.get(service, {})
    code, status, message = words.get(error.code, (error.code, error.status, None))
    message = error.message if message is None else message
    ids = {"x-amzn-RequestId": request_id}
    if protocol in {"json", "rest-json"}:
        content = _json({"__type": code, "message": message})
        return _response(status, _json_kind(service), content, {**ids, "x-amzn-ErrorType": code})
    error_xml = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    match protocol:
        case "query":
            blame = f"<Type>{'Sender' if status < 500 else 'Receiver'}</Type>"
            inner = f"<Error>{blame}{error_xml}</Error><RequestId>{request_id}</RequestId>"
            body = f'<ErrorResponse xmlns="{_NAMESPACES[service]}">{inner}</ErrorResponse>'
        case "ec2":
            inner = f"<Errors><Error>{error_xml}</Error></Errors><RequestID>{request_id}</RequestID>"
            body = f"{_XML}<Response>{inner}</Response>"
        case _:
            ids = {"x-amz-request-id": request_id}
            body = f"{_XML}<Error>{error_xml}<RequestId>{request_id}</RequestId></Error>"
    return _response(status, "application/xml" if protocol == "s3" else "text/xml", body.encode(), ids)


def _json_kind(service: str) -> str:
    if PROTOCOLS[service] == "rest-json":
        return "application/json"
    return f"application/x-amz-json-{'1.0' if service == 'sqs' else '1.1'}"


def _response(status: int, kind: str, body: bytes, headers: dict[str, str]) -> RawResponse:
    return RawResponse(status=status, headers={"Content-Type": kind, **headers}, body=body)


def _json_body(body: bytes) -> dict[str, Any]:
    """The parameters of a JSON request; null stands for none."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        raise ErrorReplyError("SerializationException", "Unable to parse the request body", 400) from None
    if not isinstance(document, dict):
        raise ErrorReplyError("SerializationException", "Start of structure expected", 400)
    params = {name: value for name, value in document.items() if value is not None}
    try:
        known = _JSON_TYPES.keys() & params.keys()
        return params | {name: msgspec.convert(params[name], _JSON_TYPES[name]) for name in known}
    except msgspec.ValidationError as error:
        raise ErrorReplyError("SerializationException", str(error), 400) from None


def _json(value: object) -> bytes:
    return json.dumps(value, default=_json_value).encode()


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def _xml(value: object, item: str = "member") -> str:
    if isinstance(value, MapEntries):
        pairs = (f"<key>{key}</key><value>{_text(content)}</value>" for key, content in value.items())
        return "".join(f"<entry>{pair}</entry>" for pair in pairs)
    if isinstance(value, dict):
        return "".join(
            f"<{key}>{_xml(content, item)}</{key}>" for key, content in value.items() if content is not None
        )
    if isinstance(value, list):
        return "".join(f"<{item}>{_xml(content, item)}</{item}>" for content in value)
    return escape(_text(value))


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return iso(value)
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return str(value)


def iso(when: datetime) -> str:
    """A time to the second, as IAM and CloudTrail write it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
