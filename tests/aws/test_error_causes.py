"""Recorded error messages of AWS, and the cause that sentence and hint speak of."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.aws import error_causes
from sparekey.aws.errors import (
    AwsError,
    ClockError,
    DeniedError,
    ErrorResponse,
    ExpiredCredentialsError,
    RejectedCredentialsError,
    error_from_botocore,
    error_from_response,
)

NOW = datetime(2026, 11, 25, 20, 40, tzinfo=UTC)
SOON = "Wed, 25 Nov 2026 20:40:01 GMT"
USER = "User: arn:aws:iam::123456789012:user/janedoe is not authorized to perform: "


def told(code: str, message: str = "", *, call: str = "iam:ListUsers", **more: str) -> AwsError:
    service, action = call.split(":")
    return error_from_response(
        ErrorResponse(
            service=service, action=action, status=403, code=code, message=message, received=NOW, **more
        )
    )


# --- the clock ---

EXPIRED, EARLY, AWS_TIME = "Signature expired", "Signature not  yet current", "20261125T204000Z"


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidSignatureException"])
@pytest.mark.parametrize(
    ("message", "offset"),
    [
        (
            f"{EXPIRED}: 20261125T180000Z is now earlier than 20261125T202500Z ({AWS_TIME} - 15 min.)",
            "2 h behind",
        ),
        (
            f"{EARLY}: 20261125T215000Z is still later than 20261125T205500Z ({AWS_TIME} + 15 min.)",
            "70 min ahead of",
        ),
        (
            f"{EARLY}: 20261201T204000Z is still later than 20261125T204500Z ({AWS_TIME} + 5 min.)",
            "6 days ahead of",
        ),
    ],
)
def test_a_signature_of_another_time_is_told_with_how_far_the_clock_is_off(
    code: str, message: str, offset: str
) -> None:
    error = told(code, message)
    assert type(error) is ClockError
    assert f"this machine's clock is {offset} AWS's" in error.message
    assert "clock" in error.hint


@pytest.mark.parametrize(
    ("code", "call", "date", "said"),
    [
        ("RequestTimeTooSkewed", "s3:ListObjectsV2", "Wed, 25 Nov 2026 23:40:00 GMT", "3 h behind"),
        ("RequestExpired", "iam:ListUsers", "Wed, 25 Nov 2026 20:00:00 GMT", "40 min ahead of"),
        ("RequestExpired", "ec2:DescribeRegions", "Wed, 25 Nov 2026 20:00:00 GMT", "40 min ahead of"),
        ("RequestInTheFuture", "sts:GetCallerIdentity", "no date", "is wrong"),
        ("SignatureDoesNotMatch", "iam:ListUsers", "Wed, 25 Nov 2026 20:00:00 GMT", "40 min ahead of"),
    ],
)
def test_the_date_of_the_answer_tells_how_far_the_clock_is_off(
    code: str, call: str, date: str, said: str
) -> None:
    error = told(code, "Signature expired" if code.startswith("Sig") else "", call=call, date=date)
    assert isinstance(error, ClockError)
    assert f"this machine's clock {said if said.startswith('is') else 'is ' + said}" in error.message


def test_a_signature_that_is_wrong_at_the_right_time_is_not_the_clocks() -> None:
    error = told("SignatureDoesNotMatch", "The request signature we calculated does not match.", date=SOON)
    assert isinstance(error, RejectedCredentialsError)
    assert "clock" not in error.message + error.hint


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_a_clock_that_is_off_is_told_beside_another_cause(code: str) -> None:
    assert "clock is 40 min ahead of AWS's" in told(code, date="Wed, 25 Nov 2026 20:00:00 GMT").hint
    assert "clock" not in told(code, date=SOON).hint


# --- EC2's own words, regions ---


def test_ec2_calls_an_ended_session_an_expired_request() -> None:
    error = told("RequestExpired", "Request has expired.", call="ec2:DescribeRegions", date=SOON)
    assert isinstance(error, ExpiredCredentialsError)
    assert "Sign in again" in error.hint
    assert "clock" in told("RequestExpired", "Request has expired.", call="ec2:DescribeRegions").hint


def test_ec2_calls_a_bad_key_a_failed_authentication() -> None:
    error = told(
        "AuthFailure", "AWS was not able to validate the provided access credentials", region="eu-west-1"
    )
    assert isinstance(error, RejectedCredentialsError)
    assert error.hint == RejectedCredentialsError.default_hint


@pytest.mark.parametrize("code", ["AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"])
@pytest.mark.parametrize("region", ["af-south-1", "eu-central-2", "mx-central-1"])
def test_a_region_that_may_not_be_enabled_is_named(code: str, region: str) -> None:
    assert f"region {region} is not enabled" in told(code, region=region).hint


@pytest.mark.parametrize(
    "region", ["us-east-1", "eu-west-3", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", ""]
)
def test_a_region_that_every_account_has_is_not(region: str) -> None:
    assert "enabled" not in told("InvalidClientTokenId", region=region).hint


def test_sts_says_itself_that_a_region_is_not_enabled() -> None:
    error = told(
        "RegionDisabledException",
        "STS is not activated in this region",
        call="sts:AssumeRole",
        region="af-south-1",
    )
    assert "region af-south-1 is not enabled" in error.message
    assert "--region" in error.hint


# --- denials ---

SCP = "arn:aws:organizations::987654321098:policy/o-qv5af4abcd/service_control_policy/p-2kgnabcd"


@pytest.mark.parametrize(
    ("message", "why", "hint"),
    [
        ("because no identity-based policy allows the iam:ListUsers action",
         "no identity-based policy allows the iam:ListUsers action", "iam-policy"),
        (f"on resource: arn:aws:iam::1:role/* with an explicit deny in a service control policy: {SCP}",
         f"an explicit deny in a service control policy: {SCP}", "service control policy"),
        ("because no service control policy allows the iam:ListUsers action",
         "no service control policy allows the iam:ListUsers action", "service control policy"),
        ("with an explicit deny in a resource control policy",
         "an explicit deny in a resource control policy", "resource control policy"),
        ("because no permissions boundary allows the iam:ListUsers action",
         "no permissions boundary allows the iam:ListUsers action", "change the boundary"),
        ("because no session policy allows the iam:ListUsers action",
         "no session policy allows the iam:ListUsers action", "session policy limits it"),
        ("because no VPC endpoint policy allows the iam:ListUsers action",
         "no VPC endpoint policy allows the iam:ListUsers action", "VPC endpoint"),
        ("because no resource-based policy allows the SNS:Publish action",
         "no resource-based policy allows the SNS:Publish action", "change it there"),
        ("because no role trust policy allows the sts:AssumeRole action",
         "no role trust policy allows the sts:AssumeRole action", "trust"),
        ("with an explicit deny in an identity-based policy",
         "an explicit deny in an identity-based policy", "further permission does not help"),
        ("with an explicit deny", "an explicit deny", "further permission does not help"),
        ("because no identity-based policy allows the ec2:DescribeRegions action. "
         "Encoded authorization failure message: " + "aB3_-" * 60,
         "no identity-based policy allows the ec2:DescribeRegions action", "iam-policy"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "code", ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"]
)
def test_a_denial_names_its_policy_and_who_can_change_it(
    code: str, message: str, why: str, hint: str
) -> None:
    error = told(code, f"{USER}iam:ListUsers {message}")
    assert isinstance(error, DeniedError)
    assert error.message == f"access denied: iam:ListUsers ({why})"
    assert hint in error.hint


# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied-authorization-id.html
DETAILS = (
    USER
    + "iam:CreateInstanceProfile on resource: arn:aws:iam::123456789012:instance-profile/my-instance-profile "
    "with an explicit deny in an identity-based policy: arn:aws:iam::123456789012:policy/ExampleDenyPolicy. "
    "Go to https://us-east-1.console.aws.amazon.com/iam/home?region=us-east-1#/authorization-details/"
    "EXAMPLE1a2b3c4d5e6f7g8h9i0j for complete details, or call the GetRequestAuthorizationDetails API with the "
    "following authorization id: EXAMPLE1a2b3c4d5e6f7g8h9i0j"
)


def test_the_authorization_id_and_the_way_to_its_details_are_told() -> None:
    error = told("AccessDenied", DETAILS)
    assert error.message == (
        "access denied: iam:ListUsers (an explicit deny in an identity-based policy: "
        "arn:aws:iam::123456789012:policy/ExampleDenyPolicy; authorization id EXAMPLE1a2b3c4d5e6f7g8h9i0j)"
    )
    assert error.hint.endswith(
        "https://us-east-1.console.aws.amazon.com/iam/home?region=us-east-1#/authorization-details/EXAMPLE1a2b3c4d5e6f7g8h9i0j"
    )
    assert (
        "example.org" not in told("AccessDenied", DETAILS.replace("aws.amazon.com", "aws.example.org")).hint
    )


def test_a_key_that_is_gone_is_answered_like_one_that_may_not_be_asked_for() -> None:
    call = "iam:GetAccessKeyLastUsed"
    gone = told("AccessDenied", USER + call + " on resource: access key AKIAIOSFODNN7EXAMPLE", call=call)
    assert "for a key that no longer exists" in gone.message
    denied = told("AccessDenied", USER + "because no identity-based policy allows the x action", call=call)
    assert "no longer exists" not in denied.message


# --- secrets ---

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CODES = (
    "",
    "MalformedInput",
    "NoSuchEntity",
    "AccessDenied",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "RequestExpired",
)
TOKEN = "IQoJb3JpZ2luX2VjE" + "aB3/+" * 60 + "=="


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "form", ["{}", "because {}", "an explicit deny in {}", "a: {}\n{}", "x-amz-security-token:{}"]
)
def test_no_secret_in_an_answer_reaches_sentence_or_hint(code: str, form: str) -> None:
    for secret in (SECRET, TOKEN):
        error = told(code, form.format(secret, secret))
        assert secret[:30] not in error.message + error.hint


def test_a_code_and_an_id_that_are_none_are_cut_short() -> None:
    error = told(f"{SECRET}\n" * 1000, request_id=TOKEN)
    assert SECRET[:20] not in error.message + error.code + error.request_id
    assert "\n" not in error.message
    assert len(error.message) < 200


def test_what_is_no_secret_stays_readable() -> None:
    digest = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    assert (
        error_causes.without_secrets(f"policy {digest} of arn:aws:iam::1:role/a")
        == f"policy {digest} of arn:aws:iam::1:role/a"
    )


def test_botocores_own_errors_that_are_not_foreseen_are_known_by_type_alone() -> None:
    error = error_from_botocore(RuntimeError(f"<Credentials>{SECRET}"), "sts:AssumeRole")
    assert error.message == "sts:AssumeRole failed in an unexpected way (RuntimeError)"


@given(st.text(max_size=60), st.text(max_size=30))
@settings(max_examples=60)
def test_any_message_and_date_come_to_one_sentence(message: str, date: str) -> None:
    for code in ("AccessDenied", "SignatureDoesNotMatch", "RequestExpired", "Other"):
        error = told(code, f"Signature expired: {message}", date=date)
        assert "\n" not in error.message


def test_an_offset_that_matters_to_nobody_is_not_told() -> None:
    assert error_causes.clock_difference(timedelta(seconds=100)) == ""
    assert error_causes.clock_difference(None) == ""
    assert (
        error_causes.clock_offset(
            "Signature expired: 20261399T180000Z is now earlier than x (20261125T204000Z - 1)"
        )
        is None
    )
