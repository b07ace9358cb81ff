"""Retries, pacing, signing and the translation of errors, against a scripted AWS."""

import pytest
from botocore.retries import standard

from sparekey.aws import errors
from sparekey.aws.http_pool import ConnectionLostError, HttpResponse
from sparekey.errors import SparekeyError
from support.clocks import VirtualClock
from support.scripted_aws import (
    ACCOUNT,
    START,
    ScriptedAws,
    connect,
    failure,
    identity,
    key_xml,
    ok,
    own_account,
    page,
)

DENIED = f"access denied: iam:ListAccessKeys in account {ACCOUNT} (no policy allows it)"
KEYS = ok("ListAccessKeys", page("AccessKeyMetadata", key_xml("AKIA1")))


def test_every_request_is_signed_for_the_partitions_region_and_told_to_the_observer() -> None:
    aws = ScriptedAws(ListAccessKeys=[KEYS])
    seen: list[tuple[str, str, str]] = []
    connect(aws, on_call=lambda *call: seen.append(call)).own_account().list_keys("ann")
    sts, iam = aws.requests
    assert (sts.url, iam.url) == ("https://sts.eu-central-1.amazonaws.com/", "https://iam.amazonaws.com/")
    assert "/eu-central-1/sts/aws4_request" in sts.headers["Authorization"]
    assert "/us-east-1/iam/aws4_request" in iam.headers["Authorization"]
    assert seen == [("", "sts", "GetCallerIdentity"), (ACCOUNT, "iam", "ListAccessKeys")]


@pytest.mark.parametrize(
    ("region", "host", "signed"),
    [
        ("cn-north-1", "iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("us-gov-east-1", "iam.us-gov.amazonaws.com", "us-gov-west-1"),
        ("eusc-de-east-1", "iam.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    ],
)
def test_other_partitions_have_their_own_hosts(region: str, host: str, signed: str) -> None:
    service = connect(ScriptedAws()).client.service("iam", region)
    assert (service.url, service.region) == (f"https://{host}/", signed)


def test_the_endpoint_variables_are_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", "http://127.0.0.1:2")
    client = connect(ScriptedAws()).client
    assert client.service("iam").url == "http://127.0.0.1:2/"
    assert client.service("sts").url == "http://127.0.0.1:1/"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert connect(ScriptedAws()).client.service("iam").url == "https://iam.amazonaws.com/"


@pytest.mark.parametrize(
    "trouble",
    [failure("InternalFailure", 500), ConnectionLostError("reset", sent=True), failure("RequestTimeout")],
)
def test_a_passing_trouble_is_tried_again_with_a_growing_pause(trouble: HttpResponse | Exception) -> None:
    clock = VirtualClock(START)
    aws = ScriptedAws(ListAccessKeys=[trouble, trouble, KEYS])
    assert len(own_account(aws, clock).list_keys("ann")) == 1
    assert len(clock.waits) == 2
    assert clock.waits[0] <= 1
    assert clock.waits[1] <= 2


def test_three_attempts_are_all_that_a_broken_service_gets() -> None:
    aws = ScriptedAws(ListAccessKeys=lambda _: failure("ServiceFailure", 503))
    with pytest.raises(errors.FailedServiceError, match="HTTP 503 ServiceFailure"):
        own_account(aws).list_keys("ann")
    assert aws.count("ListAccessKeys") == 3


def test_a_throttled_call_goes_on_slower_and_gives_up_in_the_end() -> None:
    clock = VirtualClock(START)
    aws = ScriptedAws(ListAccessKeys=[*[failure("Throttling")] * 6, KEYS])
    assert own_account(aws, clock).list_keys("ann")
    assert aws.count("ListAccessKeys") == 7
    aws = ScriptedAws(ListAccessKeys=lambda _: failure("Throttling", message="Rate exceeded"))
    with pytest.raises(
        errors.ThrottledError, match=f"too many requests: iam:ListAccessKeys in account {ACCOUNT}"
    ):
        own_account(aws, clock).list_keys("ann")
    assert aws.count("ListAccessKeys") == 20


def test_a_cut_is_not_repeated_where_that_could_do_a_thing_twice() -> None:
    aws = ScriptedAws(CreateUser=lambda _: ConnectionLostError("reset", sent=True))
    account = own_account(aws)
    with pytest.raises(errors.UnreachableError, match="no answer to iam:CreateUser: reset"):
        account._client.call(account._principal, "iam", "CreateUser", {"UserName": "x"}, idempotent=False)
    assert aws.count("CreateUser") == 1


def test_the_retried_codes_are_botocores() -> None:
    assert set(standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES) == errors.THROTTLED
    assert set(standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES) == errors.TRANSIENT


@pytest.mark.parametrize(
    ("answer", "kind", "received"),
    [
        (failure("AccessDenied", 403, "because no policy allows it"), errors.DeniedError, DENIED),
        (failure("AccessDenied", 403, "no, with an explicit deny"), errors.DeniedError, "(an explicit deny)"),
        (failure("ExpiredToken", 403), errors.ExpiredCredentialsError, "the credentials have expired"),
        (failure("InvalidClientTokenId", 403), errors.RejectedCredentialsError, "InvalidClientTokenId"),
        (failure("NoSuchEntity", 404, "no user ann"), errors.NotFoundError, "no user ann"),
        (failure("RequestExpired"), errors.ClockError, "this machine's clock is wrong"),
        (HttpResponse(403, {}, b"<html>the proxy says no"), errors.AwsError, "HTTP 403"),
        (HttpResponse(429, {}, b""), errors.ThrottledError, "too many requests"),
        (HttpResponse(200, {}, b"<html>"), errors.MalformedResponseError, "is no XML"),
        (HttpResponse(200, {}, b"<html/>"), errors.MalformedResponseError, "has no ListAccessKeysResult"),
    ],
)
def test_each_failure_is_one_typed_sentence(
    answer: HttpResponse, kind: type[SparekeyError], received: str
) -> None:
    with pytest.raises(kind) as caught:
        own_account(ScriptedAws(ListAccessKeys=lambda _: answer)).list_keys("ann")
    assert received in caught.value.message
    assert "\n" not in caught.value.message


def test_a_session_token_that_aws_quotes_is_not_passed_on() -> None:
    quoted = failure("SignatureDoesNotMatch", 403, "The Canonical String … x-amz-security-token:TOKENTOKEN")
    with pytest.raises(errors.RejectedCredentialsError) as caught:
        own_account(ScriptedAws(ListAccessKeys=[quoted])).list_keys("ann")
    assert "TOKENTOKEN" not in str(caught.value) + caught.value.hint


def test_the_request_id_and_the_code_are_kept() -> None:
    with pytest.raises(errors.AwsError) as caught:
        own_account(ScriptedAws(ListAccessKeys=[failure("NoSuchEntity", 404)])).list_keys("ann")
    assert (caught.value.code, caught.value.action, caught.value.request_id) == (
        "NoSuchEntity",
        "iam:ListAccessKeys",
        "req-1",
    )


def test_an_answer_that_botocore_cannot_read_is_no_traceback() -> None:
    with pytest.raises(errors.MalformedResponseError, match="sts:GetCallerIdentity"):
        connect(ScriptedAws(GetCallerIdentity=[HttpResponse(200, {}, b"<oops")])).caller()
    assert identity().status == 200
