"""Secrets Manager and the Parameter Store of the sandbox, beside moto where moto is right."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from sandbox.conftest import Client
from sparekey.sandbox import Sandbox
from sparekey.sandbox.scenario import SlowNewKeys

FIRST, SECOND, THIRD = (str(uuid.UUID(int=number)) for number in (1, 2, 3))


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture(params=["sandbox", "moto"])
def secrets(request: pytest.FixtureRequest, client: Client, company: Sandbox) -> Iterator[Any]:
    if request.param == "sandbox":
        yield client(company, "secretsmanager")
    else:
        with mock_aws():
            yield boto3.client(
                "secretsmanager", "us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
            )


@pytest.fixture
def ours(client: Client, company: Sandbox) -> Any:
    return client(company, "secretsmanager")


def stages(secrets: Any) -> dict[str, set[str]]:
    described = secrets.describe_secret(SecretId="app")["VersionIdsToStages"]
    return {version: set(labels) for version, labels in described.items() if labels}


def test_a_pending_version_becomes_current_and_the_last_one_previous(secrets: Any) -> None:
    secrets.create_secret(Name="app", SecretString="old", ClientRequestToken=FIRST)
    secrets.put_secret_value(
        SecretId="app", SecretString="new", ClientRequestToken=SECOND, VersionStages=["AWSPENDING"]
    )
    assert secrets.get_secret_value(SecretId="app")["SecretString"] == "old"
    assert secrets.get_secret_value(SecretId="app", VersionStage="AWSPENDING")["SecretString"] == "new"
    secrets.update_secret_version_stage(
        SecretId="app", VersionStage="AWSCURRENT", MoveToVersionId=SECOND, RemoveFromVersionId=FIRST
    )
    assert stages(secrets)[FIRST] == {"AWSPREVIOUS"}
    assert "AWSCURRENT" in stages(secrets)[SECOND]


def test_the_default_read_follows_a_label_that_was_moved(ours: Any) -> None:
    """moto goes on with the version that was current before."""
    test_a_pending_version_becomes_current_and_the_last_one_previous(ours)
    read = ours.get_secret_value(SecretId="app")
    assert (read["SecretString"], read["VersionId"]) == ("new", SECOND)
    ours.update_secret_version_stage(
        SecretId="app", VersionStage="AWSCURRENT", MoveToVersionId=FIRST, RemoveFromVersionId=SECOND
    )
    assert ours.get_secret_value(SecretId="app")["SecretString"] == "old"
    assert stages(ours)[SECOND] == {"AWSPENDING", "AWSPREVIOUS"}


def test_the_same_token_with_the_same_value_changes_nothing_and_with_another_it_is_refused(ours: Any) -> None:
    ours.create_secret(Name="app", SecretString="old", ClientRequestToken=FIRST)
    for _ in range(2):
        put = ours.put_secret_value(SecretId="app", SecretString="new", ClientRequestToken=SECOND)
        assert put["VersionStages"] == ["AWSCURRENT"]
    assert (
        refused(ours.put_secret_value, SecretId="app", SecretString="other", ClientRequestToken=SECOND)
        == "ResourceExistsException"
    )
    assert ours.get_secret_value(SecretId="app")["SecretString"] == "new"


def test_a_label_is_moved_only_from_the_version_that_has_it(ours: Any) -> None:
    ours.create_secret(Name="app", SecretString="old", ClientRequestToken=FIRST)
    ours.put_secret_value(
        SecretId="app", SecretString="new", ClientRequestToken=SECOND, VersionStages=["AWSPENDING"]
    )
    move = ours.update_secret_version_stage
    current = {"SecretId": "app", "VersionStage": "AWSCURRENT"}
    assert refused(move, **current, MoveToVersionId=SECOND) == "InvalidParameterException"
    assert (
        refused(move, **current, MoveToVersionId=SECOND, RemoveFromVersionId=SECOND)
        == "InvalidParameterException"
    )
    assert refused(move, **current, RemoveFromVersionId=FIRST) == "InvalidParameterException"
    assert (
        refused(move, **current, MoveToVersionId=THIRD, RemoveFromVersionId=FIRST)
        == "InvalidParameterException"
    )
    assert stages(ours) == {FIRST: {"AWSCURRENT"}, SECOND: {"AWSPENDING"}}


def test_what_is_not_there_is_said_in_the_words_of_aws(secrets: Any) -> None:
    assert refused(secrets.get_secret_value, SecretId="none") == "ResourceNotFoundException"
    secrets.create_secret(Name="app", SecretString="old", ClientRequestToken=FIRST)
    assert (
        refused(secrets.get_secret_value, SecretId="app", VersionStage="AWSPENDING")
        == "ResourceNotFoundException"
    )
    assert refused(secrets.create_secret, Name="app", SecretString="x") == "ResourceExistsException"


def test_old_versions_without_a_label_go_after_a_day_and_no_sooner(ours: Any, company: Sandbox) -> None:
    ours.create_secret(Name="app", SecretString="0", ClientRequestToken=FIRST)
    for number in range(105):
        ours.put_secret_value(SecretId="app", SecretString=str(number))
    (secret,) = company.state.secrets["111122223333/us-east-1"].values()
    assert len(secret.versions) == 106
    company.clock.advance(timedelta(hours=25))
    ours.put_secret_value(SecretId="app", SecretString="last")
    assert len(secret.versions) == 100
    assert ours.get_secret_value(SecretId="app")["SecretString"] == "last"


@pytest.fixture(params=["sandbox", "moto"])
def parameters(request: pytest.FixtureRequest, client: Client, company: Sandbox) -> Iterator[Any]:
    if request.param == "sandbox":
        yield client(company, "ssm")
    else:
        with mock_aws():
            yield boto3.client("ssm", "us-east-1", aws_access_key_id="x", aws_secret_access_key="y")


def test_a_parameter_has_versions_and_is_overwritten_only_when_asked(parameters: Any) -> None:
    put = parameters.put_parameter
    assert put(Name="/app/key", Value="one", Type="SecureString")["Version"] == 1
    assert refused(put, Name="/app/key", Value="two", Type="SecureString") == "ParameterAlreadyExists"
    assert put(Name="/app/key", Value="two", Overwrite=True)["Version"] == 2
    read = parameters.get_parameter(Name="/app/key", WithDecryption=True)["Parameter"]
    assert (read["Value"], read["Version"], read["Type"]) == ("two", 2, "SecureString")
    first = parameters.get_parameter(Name="/app/key:1", WithDecryption=True)["Parameter"]
    assert first["Value"] == "one"
    assert parameters.get_parameter(Name="/app/key")["Parameter"]["Value"] != "two"
    assert refused(parameters.get_parameter, Name="/none") == "ParameterNotFound"


def test_a_parameter_that_aws_would_refuse_is_refused(client: Client, company: Sandbox) -> None:
    put = client(company, "ssm").put_parameter
    assert refused(put, Name="/app/key", Value="x") == "ValidationException"
    assert refused(put, Name="app/key", Value="x", Type="String") == "ValidationException"
    assert refused(put, Name="/aws/key", Value="x", Type="String") == "ValidationException"
    assert refused(put, Name="/app/key", Value="x" * 4097, Type="String") == "ValidationException"


def test_no_value_of_a_store_is_in_the_record_of_calls(client: Client, company: Sandbox) -> None:
    client(company, "secretsmanager").create_secret(
        Name="app", SecretString="hunter2", ClientRequestToken=FIRST
    )
    client(company, "ssm").put_parameter(Name="/app", Value="hunter2", Type="SecureString")
    assert [call.action for call in company.state.calls] == [
        "secretsmanager:CreateSecret",
        "ssm:PutParameter",
    ]
    assert "hunter2" not in repr(company.state.calls)
    company.clock.advance(timedelta(hours=1))
    events = client(company, "cloudtrail").lookup_events()["Events"]
    assert {event["EventName"] for event in events} >= {"CreateSecret", "PutParameter"}
    assert "hunter2" not in json.dumps([event["CloudTrailEvent"] for event in events])


def test_a_new_key_is_usable_late_and_flaps_in_each_region_by_itself(
    client: Client, company: Sandbox
) -> None:
    company.state.faults.append(SlowNewKeys(seconds=20))
    made = client(company, "iam").create_access_key(UserName="docs-site")["AccessKey"]
    key = company.state.keys[made["AccessKeyId"]]

    def works(region: str) -> bool:
        call = client(company, "sts", key, region=region).get_caller_identity
        try:
            call()
        except ClientError:
            return False
        return True

    answers: dict[str, list[bool]] = {"us-east-1": [], "eu-central-1": []}
    for _ in range(40):
        for region, seen in answers.items():
            seen.append(works(region))
        company.clock.advance(timedelta(seconds=1))
    for seen in answers.values():
        assert not any(seen[:19])
        assert all(seen[31:])
        assert len(set(seen[20:30])) == 2
    assert answers["us-east-1"] != answers["eu-central-1"]
