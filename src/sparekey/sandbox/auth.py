"""Who signed a request: Signature Version 4 in full, in the header or in the query.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.faults import FaultRules
from sparekey.sandbox.identity import CallerPrincipal, IssuedSession
from sparekey.sandbox.protocols import RawRequest
from sparekey.sandbox.state import Company, SandboxKey

_ALGORITHM = "AWS4-HMAC-SHA256"
_SKEW = timedelta(minutes=5)
_UNHASHED = ("UNSIGNED-PAYLOAD", "STREAMING-")


class RequestSignature(msgspec.Struct, frozen=True):
    """What a signed request says of its own signature; `valid_for` where it stands in the query."""

    key: str
    day: str
    region: str
    service: str
    headers: tuple[str, ...]
    value: str
    stamp: str
    token: str
    valid_for: timedelta | None = None


def read_signature(request: RawRequest) -> RequestSignature | None:
    """The signature of a request, None where it is not signed; raises AwsError where it is malformed."""
    header = request.headers.get("authorization")
    if header is None:
        return _query_signature(request)
    parts = dict(re.findall(r"(Credential|SignedHeaders|Signature)=([^,\s]+)", header))
    if not header.startswith(_ALGORITHM + " ") or len(parts) != 3:
        raise _incomplete("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature'.")
    key, day, region, service = _scope(parts["Credential"])
    return RequestSignature(
        key=key,
        day=day,
        region=region,
        service=service,
        headers=tuple(parts["SignedHeaders"].split(";")),
        value=parts["Signature"],
        stamp=_stamp(request.headers.get("x-amz-date", "")),
        token=request.headers.get("x-amz-security-token", ""),
    )


def _query_signature(request: RawRequest) -> RequestSignature | None:
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    if query.get("X-Amz-Algorithm") != _ALGORITHM:
        return None
    lifetime = query.get("X-Amz-Expires", "")
    key, day, region, service = _scope(query.get("X-Amz-Credential", ""))
    return RequestSignature(
        key=key,
        day=day,
        region=region,
        service=service,
        headers=tuple(query.get("X-Amz-SignedHeaders", "").split(";")),
        value=query.get("X-Amz-Signature", ""),
        stamp=_stamp(query.get("X-Amz-Date", "")),
        token=query.get("X-Amz-Security-Token", ""),
        valid_for=timedelta(seconds=int(lifetime)) if lifetime.isdigit() else timedelta(hours=1),
    )


def _scope(credential: str) -> tuple[str, str, str, str]:
    """Key, day, region and service of a credential."""
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise _incomplete("Credential must have exactly 5 slash-delimited elements.")
    return scope[0], scope[1], scope[2], scope[3]


def _stamp(text: str) -> str:
    if not re.fullmatch(r"\d{8}T\d{6}Z", text):
        raise _incomplete("Date must be in ISO-8601 'basic format'.")
    return text


def authenticate(
    company: Company, faults: FaultRules, request: RawRequest, signature: RequestSignature
) -> CallerPrincipal:
    """Who the request comes from, its signature checked; raises AwsError."""
    if signature.key in company.sessions:
        session = company.sessions[signature.key]
        _check_session(company, session, signature)
        secret, caller = session.secret, session.caller()
    else:
        key = company.keys.get(signature.key)
        if key is None or signature.token or not _accepted(company, faults, key, signature.region):
            raise _unknown()
        secret, caller = key.secret, company.caller_of_key(key)
    _check_time(signature)
    _check_value(request, signature, secret)
    return caller


def _accepted(company: Company, faults: FaultRules, key: SandboxKey, region: str) -> bool:
    """Whether the place that checks requests takes this key for an active one."""
    now = company.clock.now()
    seen = now - faults.auth_lag(key)
    return (
        key.exists_at(now)
        and (not key.user or key.user in company.accounts[key.account].users)
        and (key.status_at(seen) == "Active")
        and faults.is_usable(key, region, now)
    )


def _check_session(company: Company, session: IssuedSession, signature: RequestSignature) -> None:
    if not hmac.compare_digest(signature.token.encode(), session.token.encode()):
        raise _unknown()
    if company.clock.now() >= session.expires:
        raise ErrorReplyError("ExpiredToken", "The security token included in the request is expired", 403)


def _check_time(signature: RequestSignature) -> None:
    if not signature.stamp.startswith(signature.day):
        raise _mismatch("Date in Credential scope does not match YYYYMMDD from the date of the request.")
    # The machine's clock, not the sandbox's: signers know nothing of a moved one.
    now = datetime.now(UTC)
    try:
        signed = datetime.strptime(signature.stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _incomplete("Date must be in ISO-8601 'basic format'.") from None
    if now - signed > (signature.valid_for or _SKEW):
        limit = now - (signature.valid_for or _SKEW)
        raise _mismatch(f"Signature expired: {signature.stamp} is now earlier than {limit:%Y%m%dT%H%M%SZ}.")
    if signed - now > _SKEW:
        limit = now + _SKEW
        raise _mismatch(f"Signature not yet current: {signature.stamp} is later than {limit:%Y%m%dT%H%M%SZ}.")


def _check_value(request: RawRequest, signature: RequestSignature, secret: str) -> None:
    declared = request.headers.get("x-amz-content-sha256", "")
    hashed = hashlib.sha256(request.body).hexdigest()
    if declared and not declared.startswith(_UNHASHED) and declared != hashed:
        raise ErrorReplyError(
            "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match.", 400
        )
    if signature.valid_for is not None and signature.service == "s3":
        declared = "UNSIGNED-PAYLOAD"
    if "host" not in signature.headers or not set(signature.headers) <= request.headers.keys():
        raise _mismatch("'Host' and every signed header must be sent.")
    canonical = "\n".join(
        (
            request.method,
            request.path if signature.service == "s3" else quote(request.path, safe="/~"),
            _canonical_query(request.query),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in signature.headers),
            "",
            ";".join(signature.headers),
            declared or hashed,
        )
    )
    scope = f"{signature.day}/{signature.region}/{signature.service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, signature.stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = _signing_key(secret, signature.day, signature.region, signature.service)
    expected = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, signature.value):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method. "
            "Consult the service documentation for details."
        )


def _canonical_query(query: str) -> str:
    pairs = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name != "X-Amz-Signature":
            pairs.append((quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


@lru_cache(maxsize=4096)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _unknown() -> ErrorReplyError:
    return ErrorReplyError(
        "InvalidClientTokenId", "The security token included in the request is invalid.", 403
    )


def _incomplete(message: str) -> ErrorReplyError:
    return ErrorReplyError("IncompleteSignature", message, 400)


def _mismatch(message: str) -> ErrorReplyError:
    return ErrorReplyError("SignatureDoesNotMatch", message, 403)
