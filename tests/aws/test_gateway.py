"""Who is asking, what it may do, and what else one account tells."""

from pathlib import Path
from typing import NoReturn

import pytest
from botocore.exceptions import ClientError, UnauthorizedSSOTokenError

from sparekey.aws.errors import (
    DeniedError,
    ExpiredCredentialsError,
    MalformedResponseError,
    NoCredentialsError,
    NoRegionError,
)
from sparekey.aws.gateway import AwsGateway, IamSummary
from sparekey.model import Caller, Unreadable
from support.clocks import VirtualClock
from support.scripted_aws import (
    ACCOUNT,
    START,
    ScriptedAws,
    connect,
    failure,
    identity,
    ok,
    own_account,
    session,
)

ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/Ops/ann"


def test_the_caller_is_the_user_and_the_key_of_the_credentials() -> None:
    aws = ScriptedAws()
    gateway = connect(aws)
    expected = Caller(
        ACCOUNT,
        f"arn:aws:iam::{ACCOUNT}:user/ops/admin",
        frozenset({(ACCOUNT, "admin")}),
        frozenset({"AKIAIOSFODNN7EXAMPLE"}),
    )
    assert gateway.caller() == expected
    assert gateway.caller() is gateway.caller()
    assert (gateway.own_account().account_id, gateway.own_account().partition) == (ACCOUNT, "aws")
    assert len(aws.requests) == 1


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty AWS home; nothing of this machine is seen."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def test_no_credentials_is_one_sentence_with_a_hint(files: Path) -> None:
    with pytest.raises(NoCredentialsError, match="no AWS credentials were found") as caught:
        AwsGateway.connect()
    assert "--profile" in caught.value.hint
    assert caught.value.exit_code == 1


def test_a_profile_that_does_not_exist_is_named(files: Path) -> None:
    with pytest.raises(NoCredentialsError, match="nobody"):
        AwsGateway.connect(profile="nobody")


def test_a_broken_configuration_file_is_no_traceback(files: Path) -> None:
    (files / "config").write_text("[profile x\n")
    with pytest.raises(NoCredentialsError, match="config"):
        AwsGateway.connect()


def test_a_missing_region_is_asked_for(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    gateway = AwsGateway.connect(send=ScriptedAws().send)
    assert gateway.caller().account == ACCOUNT  # the global endpoints need none
    with pytest.raises(NoRegionError, match="no AWS region is set"):
        gateway.client.service("cloudtrail")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert AwsGateway.connect().client.service("sts").url == "https://sts.eu-west-3.amazonaws.com/"


def test_expired_credentials_say_so() -> None:
    with pytest.raises(ExpiredCredentialsError, match="expired"):
        connect(ScriptedAws(GetCallerIdentity=[failure("ExpiredToken", 403)])).caller()


class Failing:
    """botocore's credentials where the provider behind them fails."""

    method = "assume-role"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get_frozen_credentials(self) -> NoReturn:
        raise self._error


def gateway_of(found: object, aws: ScriptedAws) -> AwsGateway:
    made = session()
    made._credentials = found
    return AwsGateway.connect(session=made, region="eu-central-1", clock=VirtualClock(START), send=aws.send)


def test_a_role_that_botocore_cannot_assume_for_a_profile_is_a_denial() -> None:
    received = {"Error": {"Code": "AccessDenied", "Message": "not authorized"}}
    refused = ClientError({**received, "ResponseMetadata": {"HTTPStatusCode": 403}}, "AssumeRole")
    aws = ScriptedAws()
    with pytest.raises(DeniedError, match="access denied: sts:AssumeRole"):
        gateway_of(Failing(refused), aws).caller()
    assert aws.requests == []


def test_an_sso_session_that_ended_asks_to_sign_in_again() -> None:
    with pytest.raises(ExpiredCredentialsError, match="the sign-in has ended") as caught:
        gateway_of(Failing(UnauthorizedSSOTokenError()), ScriptedAws()).caller()
    assert "aws sso login" in caught.value.hint


def test_alias_and_root_keys() -> None:
    users = "<entry><key>Users</key><value>7</value></entry>"
    root = "<entry><key>AccountAccessKeysPresent</key><value>1</value></entry>"
    account = own_account(
        ScriptedAws(
            ListAccountAliases=[
                ok("ListAccountAliases", "<AccountAliases><member>acme</member></AccountAliases>"),
                ok("ListAccountAliases", "<AccountAliases/>"),
            ],
            GetAccountSummary=[
                ok("GetAccountSummary", f"<SummaryMap>{users}{root}</SummaryMap>"),
                ok("GetAccountSummary", f"<SummaryMap>{users}</SummaryMap>"),
            ],
        )
    )
    assert [account.alias(), account.alias()] == ["acme", ""]
    assert account.summary() == IamSummary(user_count=7, root_keys=1)
    with pytest.raises(MalformedResponseError, match="AccountAccessKeysPresent"):
        account.root_keys()


def test_one_denied_resource_is_enough() -> None:
    each = "<ResourceSpecificResults><member><EvalResourceName>x</EvalResourceName>"
    each += "<EvalResourceDecision>explicitDeny</EvalResourceDecision></member></ResourceSpecificResults>"
    allowed = _decision(("iam:ListUsers", "allowed")).replace("</member>", f"{each}</member>")
    aws = ScriptedAws(SimulatePrincipalPolicy=[ok("SimulatePrincipalPolicy", allowed)])
    assert own_account(aws).simulate(["iam:ListUsers"], ["x", "y"]) == ("iam:ListUsers",)


def _decision(*pairs: tuple[str, str], marker: str = "") -> str:
    members = "".join(
        f"<member><EvalActionName>{action}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>"
        for action, decision in pairs
    )
    tail = f"<IsTruncated>true</IsTruncated><Marker>{marker}</Marker>" if marker else ""
    return f"<EvaluationResults>{members}</EvaluationResults>{tail}"


def test_many_users_are_simulated_in_parts() -> None:
    aws = ScriptedAws(
        SimulatePrincipalPolicy=[
            ok("SimulatePrincipalPolicy", _decision(("iam:ListUsers", "allowed"))),
            ok("SimulatePrincipalPolicy", _decision(("iam:ListUsers", "implicitDeny"))),
        ]
    )
    arns = [f"arn:aws:iam::111122223333:user/{number:03}" for number in range(150)]
    assert own_account(aws).simulate(["iam:ListUsers"], arns) == ("iam:ListUsers",)
    asked = [
        value for call in aws.call_names for name, value in call.items() if name.startswith("ResourceArns")
    ]
    assert sorted(asked) == arns
    assert [call["Action"] for call in aws.call_names[1:]] == ["SimulatePrincipalPolicy"] * 2


def test_what_is_denied_is_simulated_over_two_pages() -> None:
    aws = ScriptedAws(
        SimulatePrincipalPolicy=[
            ok("SimulatePrincipalPolicy", _decision(("iam:ListUsers", "allowed"), marker="m")),
            ok("SimulatePrincipalPolicy", _decision(("iam:UpdateAccessKey", "implicitDeny"))),
        ]
    )
    denied = own_account(aws).simulate(["iam:ListUsers", "iam:UpdateAccessKey", "iam:ListAccessKeys"], ["*"])
    assert denied == ("iam:ListAccessKeys", "iam:UpdateAccessKey")  # undecided is not allowed
    assert aws.call_names[-1]["Marker"] == "m"


def test_a_session_is_simulated_as_its_role_with_the_roles_own_path() -> None:
    role = f"<Role><Arn>arn:aws:iam::{ACCOUNT}:role/team/Ops</Arn></Role>"
    allowed = _decision(("iam:ListUsers", "allowed"))
    aws = ScriptedAws(
        GetCallerIdentity=lambda _: identity(ROLE),
        GetRole=[ok("GetRole", role), failure("AccessDenied", 403)],
        SimulatePrincipalPolicy=lambda _: ok("SimulatePrincipalPolicy", allowed),
    )
    account = own_account(aws)
    assert account.simulate(["iam:ListUsers"], ["*"]) == ()
    assert aws.call_names[-1]["PolicySourceArn"] == f"arn:aws:iam::{ACCOUNT}:role/team/Ops"
    assert account.simulate(["iam:ListUsers"], ["*"]) == ()
    assert aws.call_names[-1]["PolicySourceArn"] == f"arn:aws:iam::{ACCOUNT}:role/Ops"


def test_what_cannot_be_simulated_is_unreadable_and_the_root_user_needs_none() -> None:
    aws = ScriptedAws(SimulatePrincipalPolicy=[failure("AccessDenied", 403)])
    denied = own_account(aws).simulate(["iam:ListUsers"], ["*"])
    assert isinstance(denied, Unreadable)
    assert denied.code == "AccessDenied"
    root = ScriptedAws(GetCallerIdentity=lambda _: identity(f"arn:aws:iam::{ACCOUNT}:root"))
    assert own_account(root).simulate(["iam:ListUsers"], ["*"]) == ()
