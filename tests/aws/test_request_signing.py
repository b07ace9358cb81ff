"""Our shims of botocore's signer sign as botocore's own does, whatever the request."""

from datetime import datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from sparekey.aws.request_signing import Signer, UnsignedRequest

NOW = datetime(2026, 3, 2, 9, 0)  # noqa: DTZ001  # as botocore's own clock gives it
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
SECRETS = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+=", min_size=1, max_size=60
)
URLS = st.builds(
    "{}://{}.{}{}{}".format,
    st.sampled_from(["https", "http"]),
    WORDS.map(lambda word: word.strip("-") or "a"),
    st.sampled_from(["amazonaws.com", "amazonaws.com.cn", "localhost"]),
    st.sampled_from(["", ":8443", ":443", ":80"]),
    st.sampled_from(["/", "", "/a/b", "/a%20b/~x"]),
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)


@given(
    url=URLS,
    body=st.binary(max_size=200),
    region=WORDS,
    service=WORDS,
    secret=SECRETS,
    token=st.none() | SECRETS,
    target=st.none() | VALUES,
    content_type=VALUES,
    agent=VALUES,
)
def test_a_request_is_signed_as_by_botocore(
    url: str,
    body: bytes,
    region: str,
    service: str,
    secret: str,
    token: str | None,
    target: str | None,
    content_type: str,
    agent: str,
) -> None:
    headers = {"Content-Type": content_type, "User-Agent": agent, "Host": urlsplit(url).netloc}
    if target is not None:
        headers["X-Amz-Target"] = target
    credentials = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", secret, token)
    ours = UnsignedRequest(url, dict(headers), body)
    theirs: Any = AWSRequest(method="POST", url=url, headers=dict(headers), data=body)
    with patch("botocore.auth.get_current_datetime", lambda **_: NOW):
        Signer(credentials, service, region).add_auth(ours)
        SigV4Auth(credentials, service, region).add_auth(theirs)
    assert ours.headers["Authorization"] == theirs.headers["Authorization"]
    assert ours.headers["X-Amz-Date"] == theirs.headers["X-Amz-Date"]
    assert ours.headers.get("X-Amz-Security-Token") == token


def test_a_second_signature_replaces_the_first() -> None:
    credentials = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", "secret", None)
    request = UnsignedRequest("https://iam.amazonaws.com/", {"Host": "iam.amazonaws.com"}, b"x")
    with patch("botocore.auth.get_current_datetime", lambda **_: NOW):
        Signer(credentials, "iam", "us-east-1").add_auth(request)
        first = request.headers["Authorization"]
        Signer(credentials, "iam", "us-east-1").add_auth(request)
    assert request.headers["Authorization"] == first
