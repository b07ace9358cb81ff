"""What CloudTrail tells of the calls that were made, and of those that the scenario says were."""

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from sparekey.sandbox import Sandbox, SandboxClock
from sparekey.sandbox.scenario import LateHistory

APPS = """
lookup_rate = 2.0
regions = ["us-east-1", "eu-central-1"]
[[account]]
id = "111122223333"
[[account.role]]
name = "Deploy"
external_id = "x"
[[account.user]]
name = "app"
key = [{ age = "200d" }, { age = "100d", used = { ago = "1h", service = "s3" } }]
[[account.app]]
name = "weekly job"
user = "app"
calls = ["glue:StartJobRun"]
every = "7d"
from = "60d"
to = "2d"
agent = "job/1"
source = "198.51.100.1"
region = "eu-central-1"
[[account.app]]
name = "only s3"
user = "app"
key = 2
calls = ["s3:PutObject"]
every = "1d"
from = "10d"
to = "3h"
[[account.user]]
name = "login"
key = [{ age = "200d" }]
[[account.app]]
name = "login"
user = "login"
calls = ["ec2:DescribeInstances"]
every = "6h"
from = "2d"
via = "AssumeRole"
role = "Deploy"
external_id = "x"
session = "1h"
"""


def lookup(api: Any, key: str = "", value: str = "", **more: Any) -> list[dict[str, Any]]:
    """All pages of a lookup."""
    attributes = [{"AttributeKey": key, "AttributeValue": value}] if key else []
    pages = api.get_paginator("lookup_events").paginate(LookupAttributes=attributes, **more)
    return [event for page in pages for event in page["Events"]]


def record(event: dict[str, Any]) -> dict[str, Any]:
    """The record inside an event."""
    found: dict[str, Any] = json.loads(event["CloudTrailEvent"])
    return found


def archive(sandbox: Sandbox, folder: Path) -> list[dict[str, Any]]:
    """All records of an archive."""
    paths = sandbox.export_archive(folder)
    return [entry for path in paths for entry in json.loads(gzip.decompress(path.read_bytes()))["Records"]]


def test_a_call_is_recorded_as_cloudtrail_would(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    key = company.key("web-frontend")
    iam = client(company, "iam", user_agent="probe/1.0")
    answer = iam.update_access_key(UserName="web-frontend", AccessKeyId=key.id, Status="Inactive")
    event = lookup(client(company, "cloudtrail"), "EventName", "UpdateAccessKey")[0]
    assert event["AccessKeyId"] == company.operator.id
    assert (event["Username"], event["ReadOnly"]) == ("ops", "false")
    assert {"ResourceType": "AWS::IAM::AccessKey", "ResourceName": key.id} in event["Resources"]
    assert event["EventTime"] == clock.now().replace(microsecond=0)
    received = record(event)
    assert received["eventID"] == event["EventId"]
    assert received["requestID"] == answer["ResponseMetadata"]["RequestId"]
    assert received["requestParameters"] == {
        "userName": "web-frontend",
        "accessKeyId": key.id,
        "status": "Inactive",
    }
    assert received["userIdentity"] == {
        "type": "IAMUser",
        "principalId": company.state.user("111122223333", "ops").id,
        "arn": "arn:aws:iam::111122223333:user/people/ops",
        "accountId": "111122223333",
        "accessKeyId": company.operator.id,
        "userName": "ops",
    }
    assert (received["userAgent"], received["sourceIPAddress"]) == ("probe/1.0", "127.0.0.1")
    assert (received["awsRegion"], received["eventCategory"]) == ("us-east-1", "Management")


def test_a_refused_call_is_recorded_and_an_unauthenticated_is_not(
    company: Sandbox, client: Any, refused: Any
) -> None:
    assert refused(client(company, "iam").get_user, UserName="nobody")[0] == "NoSuchEntity"
    assert (
        refused(client(company, "sts", company.key("alice")).get_caller_identity)[0] == "InvalidClientTokenId"
    )
    trail = client(company, "cloudtrail")
    (event,) = lookup(trail, "EventName", "GetUser")
    assert record(event)["errorCode"] == "NoSuchEntityException"
    assert record(event)["responseElements"] is None
    assert lookup(trail, "AccessKeyId", company.key("alice").id) == []


def test_sessions_are_joined_to_the_key_that_minted_them(company: Sandbox, client: Any) -> None:
    first = client(company, "sts").get_session_token()
    role = {"RoleArn": "arn:aws:iam::222233334444:role/SparekeyAudit", "ExternalId": "practice"}
    second = client(company, "sts", first).assume_role(RoleSessionName="audit", **role)
    client(company, "iam", second).list_users()
    trail = client(company, "cloudtrail")

    minted = record(lookup(trail, "AccessKeyId", company.operator.id)[0])
    assert minted["eventName"] == "GetSessionToken"
    first_id = first["Credentials"]["AccessKeyId"]
    assert minted["responseElements"]["credentials"]["accessKeyId"] == first_id

    (chained,) = map(record, lookup(trail, "AccessKeyId", first_id))
    assert chained["eventName"] == "AssumeRole"
    assert chained["userIdentity"]["sessionContext"]["attributes"]["mfaAuthenticated"] == "false"
    second_id = second["Credentials"]["AccessKeyId"]
    assert chained["responseElements"]["credentials"]["accessKeyId"] == second_id

    other = client(company, "cloudtrail", second)
    (used,) = map(record, lookup(other, "EventName", "ListUsers"))
    assert used["userIdentity"]["type"] == "AssumedRole"
    assert used["userIdentity"]["accessKeyId"] == second_id
    assert used["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"] == "SparekeyAudit"
    (seen,) = map(record, lookup(other, "EventName", "AssumeRole"))
    assert seen["userIdentity"]["type"] == "AWSAccount"
    assert "accessKeyId" not in seen["userIdentity"]
    assert seen["sharedEventID"] == chained["sharedEventID"]
    assert seen["recipientAccountId"] == "222233334444"


def test_a_scenarios_applications_have_a_past(client: Any, clock: SandboxClock) -> None:
    sandbox = Sandbox(APPS.replace("lookup_rate = 2.0", ""), clock=clock)
    job, only_s3, login = sandbox.key("app"), sandbox.key("app", number=2), sandbox.key("login")
    trail = client(sandbox, "cloudtrail", region="eu-central-1")
    events = lookup(trail, "AccessKeyId", job.id)
    times = [event["EventTime"] for event in events]
    assert len(events) == 9
    assert times == sorted(times, reverse=True)
    assert {a - b for a, b in pairwise(times)} == {timedelta(days=7)}
    assert clock.now().replace(microsecond=0) - times[0] == timedelta(days=2)
    received = record(events[0])
    assert (received["userAgent"], received["sourceIPAddress"]) == ("job/1", "198.51.100.1")
    assert lookup(client(sandbox, "cloudtrail"), "AccessKeyId", job.id) == []

    iam = client(sandbox, "iam")
    last = iam.get_access_key_last_used(AccessKeyId=job.id)["AccessKeyLastUsed"]
    assert last == {"LastUsedDate": times[0], "ServiceName": "glue", "Region": "eu-central-1"}
    assert lookup(client(sandbox, "cloudtrail"), "AccessKeyId", only_s3.id) == []
    result = iam.get_access_key_last_used(AccessKeyId=only_s3.id)["AccessKeyLastUsed"]["LastUsedDate"]
    assert clock.now().replace(microsecond=0) - result == timedelta(hours=1)

    minted = [record(event) for event in lookup(client(sandbox, "cloudtrail"), "AccessKeyId", login.id)]
    assert {event["eventName"] for event in minted} == {"AssumeRole"}
    session = minted[0]["responseElements"]["credentials"]["accessKeyId"]
    (call,) = lookup(client(sandbox, "cloudtrail"), "AccessKeyId", session)
    assert call["EventName"] == "DescribeInstances"
    assert iam.get_access_key_last_used(AccessKeyId=login.id)["AccessKeyLastUsed"]["ServiceName"] == "sts"


def test_the_history_is_paged_while_it_grows(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    sts, trail = client(company, "sts"), client(company, "cloudtrail")
    for _ in range(55):
        sts.get_caller_identity()
    attributes = [{"AttributeKey": "EventName", "AttributeValue": "GetCallerIdentity"}]
    first = trail.lookup_events(LookupAttributes=attributes)
    assert len(first["Events"]) == 50
    sts.get_caller_identity()
    clock.advance(1)
    sts.get_caller_identity()
    second = trail.lookup_events(LookupAttributes=attributes, NextToken=first["NextToken"])
    ids = {event["EventId"] for event in first["Events"] + second["Events"]}
    assert len(ids) == 55
    assert "NextToken" not in second
    pages = trail.get_paginator("lookup_events").paginate(
        LookupAttributes=attributes, PaginationConfig={"PageSize": 10}
    )
    assert sum(len(page["Events"]) for page in pages) == 57


def test_the_history_is_bounded_in_time(company: Sandbox, client: Any, clock: SandboxClock) -> None:
    iam, trail = client(company, "iam"), client(company, "cloudtrail")
    iam.list_account_aliases()
    start = clock.now() - timedelta(seconds=1)
    clock.advance(timedelta(hours=1))
    iam.list_account_aliases()
    assert len(lookup(trail, "EventName", "ListAccountAliases")) == 2
    assert (
        len(
            lookup(
                trail,
                "EventName",
                "ListAccountAliases",
                StartTime=start,
                EndTime=start + timedelta(minutes=1),
            )
        )
        == 1
    )
    assert (
        len(lookup(trail, "EventName", "ListAccountAliases", StartTime=clock.now() - timedelta(minutes=1)))
        == 1
    )
    company.state.faults.append(LateHistory(seconds=600))
    assert len(lookup(trail, "EventName", "ListAccountAliases")) == 1
    clock.advance(timedelta(days=90))
    assert lookup(trail, "EventName", "ListAccountAliases") == []


def test_wrong_lookups_are_named(company: Sandbox, client: Any, refused: Any) -> None:
    trail = client(company, "cloudtrail")
    one = {"AttributeKey": "EventName", "AttributeValue": "x"}
    for params, code in (
        ({"LookupAttributes": [one, one]}, "InvalidLookupAttributesException"),
        (
            {"LookupAttributes": [{"AttributeKey": "Shoe", "AttributeValue": "x"}]},
            "InvalidLookupAttributesException",
        ),
        (
            {"StartTime": datetime(2026, 1, 2, tzinfo=UTC), "EndTime": datetime(2026, 1, 1, tzinfo=UTC)},
            "InvalidTimeRangeException",
        ),
        ({"MaxResults": 51}, "InvalidMaxResultsException"),
        ({"NextToken": "x"}, "InvalidNextTokenException"),
    ):
        assert refused(trail.lookup_events, **params)[0] == code


def test_each_attribute_finds(company: Sandbox, client: Any) -> None:
    trail = client(company, "cloudtrail")
    key = company.key("mobile-api", number=2)
    (made,) = lookup(trail, "ResourceName", key.id)
    for name, value in (
        ("EventId", made["EventId"]),
        ("EventName", "CreateAccessKey"),
        ("EventSource", "iam.amazonaws.com"),
        ("ReadOnly", "false"),
        ("ResourceType", "AWS::IAM::AccessKey"),
        ("Username", made["Username"]),
    ):
        assert made["EventId"] in {event["EventId"] for event in lookup(trail, name, value)}
        assert made["EventId"] not in {event["EventId"] for event in lookup(trail, name, value + "x")}
    assert record(made)["responseElements"]["accessKey"]["accessKeyId"] == key.id
    assert lookup(trail, "AccessKeyId", key.id) == []


def test_two_lookups_a_second_where_the_scenario_says_so(
    client: Any, refused: Any, clock: SandboxClock
) -> None:
    sandbox = Sandbox(APPS, clock=clock)
    trail = client(sandbox, "cloudtrail")
    trail.lookup_events()
    trail.lookup_events()
    assert refused(trail.lookup_events)[:2] == ("ThrottlingException", 400)
    client(sandbox, "cloudtrail", region="eu-central-1").lookup_events()
    clock.advance(0.5)
    trail.lookup_events()
    assert refused(trail.lookup_events)[0] == "ThrottlingException"


def test_an_archive_holds_data_events_too(client: Any, clock: SandboxClock, tmp_path: Path) -> None:
    sandbox = Sandbox(APPS, clock=clock)
    only_s3 = sandbox.key("app", number=2)
    client(sandbox, "s3", only_s3).put_object(Bucket="b", Key="k", Body=b"x")
    records = archive(sandbox, tmp_path)
    found = [entry for entry in records if entry["userIdentity"].get("accessKeyId") == only_s3.id]
    assert {entry["eventName"] for entry in found} == {"PutObject"}
    assert {entry["eventCategory"] for entry in found} == {"Data"}
    assert len(found) == 11
    live = next(entry for entry in found if "resources" in entry)
    assert live["resources"][0] == {
        "accountId": "111122223333",
        "type": "AWS::S3::Object",
        "ARN": "arn:aws:s3:::b/k",
    }
    assert len({entry["eventID"] for entry in records}) == len(records) == sum(1 for _ in sandbox.state.trail)


def test_an_archive_is_laid_out_as_cloudtrail_does(clock: SandboxClock, tmp_path: Path) -> None:
    sandbox = Sandbox(APPS, clock=clock)
    paths = sandbox.export_archive(
        tmp_path, organization="o-practice01", prefix="logs", every=timedelta(days=1)
    )
    for path in paths:
        parts = path.relative_to(tmp_path).parts
        assert parts[:5] == ("logs", "AWSLogs", "o-practice01", "111122223333", "CloudTrail")
        region, day, name = parts[5], "".join(parts[6:9]), parts[9]
        account, word, same_region, delivered, unique = name.removesuffix(".json.gz").split("_")
        assert (account, word, same_region) == ("111122223333", "CloudTrail", region)
        assert delivered.startswith(day)
        assert len(unique) == 16
        records = json.loads(gzip.decompress(path.read_bytes()))["Records"]
        latest = max(re.sub(r"[-:]", "", entry["eventTime"]) for entry in records)
        assert latest < delivered.replace("Z", "00Z")
