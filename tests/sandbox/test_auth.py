"""Who may knock: signatures, keys and sessions."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sparekey.sandbox import Sandbox, SandboxClock
from sparekey.sandbox.protocols import RawRequest, RawResponse

SERVICES = [
    ("iam", "get_account_summary", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("sts", "get_caller_identity", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("organizations", "list_accounts", "UnrecognizedClientException", "InvalidSignatureException"),
    ("cloudtrail", "lookup_events", "UnrecognizedClientException", "InvalidSignatureException"),
    ("account", "list_regions", "UnrecognizedClientException", "InvalidSignatureException"),
    ("ec2", "describe_regions", "AuthFailure", "AuthFailure"),
    ("s3", "list_buckets", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
]


@pytest.mark.parametrize(("service", "operation", "unknown", "mismatch"), SERVICES)
def test_each_protocol_refuses_in_its_own_words(
    company: Sandbox, client: Any, refused: Any, service: str, operation: str, unknown: str, mismatch: str
) -> None:
    key = company.operator
    wrong_id = {"AccessKeyId": "AKIAAAAAAAAAAAAAAAAA", "SecretAccessKey": key.secret, "SessionToken": None}
    wrong_secret = {"AccessKeyId": key.id, "SecretAccessKey": key.secret + "x", "SessionToken": None}
    getattr(client(company, service), operation)()
    for credentials, code in ((wrong_id, unknown), (wrong_secret, mismatch)):
        made = client(company, service, {"Credentials": credentials})
        assert refused(getattr(made, operation))[0] == code


def test_an_inactive_key_is_unknown_and_its_session_lives_on(
    company: Sandbox, client: Any, refused: Any, clock: SandboxClock
) -> None:
    key = company.key("billing-export")
    session = client(company, "sts", key).get_session_token(DurationSeconds=900)
    client(company, "iam").update_access_key(UserName=key.user, AccessKeyId=key.id, Status="Inactive")

    code, status, message = refused(client(company, "sts", key).get_caller_identity)
    assert (code, status) == ("InvalidClientTokenId", 403)
    assert message == "The security token included in the request is invalid."
    assert client(company, "sts", session).get_caller_identity()["Arn"].endswith(":user/apps/billing-export")

    clock.advance(timedelta(minutes=15))
    assert refused(client(company, "sts", session).get_caller_identity)[:2] == ("ExpiredToken", 403)
    assert refused(client(company, "organizations", session).list_accounts)[0] == "ExpiredTokenException"


def test_a_session_needs_its_own_token(company: Sandbox, client: Any, refused: Any) -> None:
    session = client(company, "sts").get_session_token()
    session["Credentials"]["SessionToken"] = "x" + session["Credentials"]["SessionToken"]
    assert refused(client(company, "sts", session).get_caller_identity)[0] == "InvalidClientTokenId"
    key = company.operator
    with_token = {"Credentials": {"AccessKeyId": key.id, "SecretAccessKey": key.secret, "SessionToken": "x"}}
    assert refused(client(company, "sts", with_token).get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_deleted_key_and_an_expired_key_are_unknown(company: Sandbox, client: Any, refused: Any) -> None:
    key = company.key("docs-site")
    company.state.keys[key.id].status = "Expired"
    assert refused(client(company, "sts", key).get_caller_identity)[0] == "InvalidClientTokenId"
    key.status = "Active"
    assert client(company, "sts", key).get_caller_identity()
    client(company, "iam").delete_access_key(UserName="docs-site", AccessKeyId=key.id)
    assert refused(client(company, "sts", key).get_caller_identity)[0] == "InvalidClientTokenId"


def send(sandbox: Sandbox, *, sign: bool = True, stamp: datetime | None = None, **change: Any) -> RawResponse:
    """A hand-made GetCallerIdentity, changed after it was signed."""
    url = "http://127.0.0.1:4599/"
    signed = AWSRequest("POST", url, data=b"Action=GetCallerIdentity&Version=2011-06-15")
    signed.headers["Host"] = urlsplit(url).netloc
    signed.headers["Content-Type"] = "application/x-www-form-urlencoded"
    key = sandbox.operator
    if sign:
        auth = SigV4Auth(Credentials(key.id, key.secret), "sts", "us-east-1")
        auth.add_auth(signed)
        if stamp is not None:
            del signed.headers["Authorization"]
            signed.context["timestamp"] = f"{stamp:%Y%m%dT%H%M%SZ}"
            signed.headers.replace_header("X-Amz-Date", signed.context["timestamp"])
            auth._inject_signature_to_request(
                signed, auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed)
            )
    headers = {name.lower(): value for name, value in signed.headers.items()} | change.pop("headers", {})
    sent = {"method": "POST", "path": "/", "headers": headers, "body": signed.data} | change
    return sandbox.handle(RawRequest(**sent))


def test_a_request_changed_after_signing_does_not_match(company: Sandbox) -> None:
    assert send(company).status == 200
    for change in (
        {"body": b"Action=GetCallerIdentity&Version=2011-06-16"},
        {"path": "/x"},
        {"query": "a=b"},
        {"method": "PUT"},
        {"headers": {"host": "elsewhere"}},
    ):
        response = send(company, **change)
        assert response.status == 403
        assert b"<Code>SignatureDoesNotMatch</Code>" in response.body


def test_the_time_of_signing_counts(company: Sandbox) -> None:
    now = datetime.now(UTC)
    assert send(company, stamp=now - timedelta(minutes=4)).status == 200
    assert b"Signature expired" in send(company, stamp=now - timedelta(minutes=6)).body
    assert b"not yet current" in send(company, stamp=now + timedelta(minutes=6)).body


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("AWS4-HMAC-SHA256 nonsense", b"IncompleteSignature"),
        ("Bearer x", b"IncompleteSignature"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00", b"IncompleteSignature"),
    ],
)
def test_a_malformed_signature_is_named(company: Sandbox, header: str, code: bytes) -> None:
    response = send(company, headers={"authorization": header})
    assert response.status == 400
    assert code in response.body
    assert b"IncompleteSignature" in send(company, headers={"x-amz-date": "yesterday"}).body


def test_an_unsigned_request_is_refused(company: Sandbox) -> None:
    response = send(company, sign=False)
    assert response.status == 403
    assert b"<Code>MissingAuthenticationToken</Code>" in response.body
    target = {"x-amz-target": "AWSOrganizationsV20161128.ListAccounts"}
    response = send(company, sign=False, headers=target)
    assert b"MissingAuthenticationTokenException" in response.body


def test_a_signature_in_the_query_counts_too(company: Sandbox, client: Any) -> None:
    client(company, "s3").put_object(Bucket="b", Key="a b", Body=b"content")
    signed = client(company, "s3", signature_version="s3v4")
    url = signed.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "a b"})
    parts = urlsplit(url)
    request = {"method": "GET", "path": parts.path, "headers": {"host": parts.netloc}}
    assert company.handle(RawRequest(query=parts.query, **request)).body == b"content"
    assert company.handle(RawRequest(query=parts.query + "0", **request)).status == 403


def test_what_the_sandbox_does_not_have(company: Sandbox, client: Any, refused: Any) -> None:
    assert refused(client(company, "dynamodb").list_tables)[0] == "UnknownOperationException"
    assert refused(client(company, "iam").list_groups)[0] == "InvalidAction"
    api = client(company, "organizations")
    assert refused(api.list_policies, Filter="TAG_POLICY")[0] == "UnknownOperationException"
    assert refused(client(company, "s3").delete_object, Bucket="b", Key="k")[0] == "NotImplemented"
