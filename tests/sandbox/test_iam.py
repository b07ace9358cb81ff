"""IAM: users, keys, paging and the errors' words."""

import json
from datetime import timedelta
from typing import Any

import pytest

from sparekey.sandbox import Sandbox, SandboxClock
from sparekey.sandbox.scenario import ShortPages, Stale

CROWD = """
[[account]]
id = "111122223333"
[[account.many]]
prefix = "user-"
count = 1001
key = [{ age = "10d" }]
"""


def statuses(iam: Any, user: str) -> dict[str, str]:
    """The status of each key of a user."""
    found = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    return {key["AccessKeyId"]: key["Status"] for key in found}


def test_users_are_paged_as_asked(client: Any, refused: Any) -> None:
    iam = client(Sandbox(CROWD), "iam")
    first = iam.list_users()
    assert (len(first["Users"]), first["IsTruncated"]) == (100, True)
    pages = [
        len(page["Users"])
        for page in iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 1000})
    ]
    assert pages == [1000, 2]
    names = [u["UserName"] for page in iam.get_paginator("list_users").paginate() for u in page["Users"]]
    assert len(set(names)) == len(names) == 1002
    assert names == sorted(names)
    for size in (0, 1001):
        code, status, _ = refused(iam.list_users, MaxItems=size)
        assert (code, status) == ("ValidationError", 400)
    assert refused(iam.list_users, Marker="\x00")[0] == "ValidationError"


def test_short_pages_lose_nobody(company: Sandbox, client: Any) -> None:
    iam = client(company, "iam")
    whole = [user["UserName"] for user in iam.list_users()["Users"]]
    company.state.faults.append(ShortPages(action="iam:List*", size=1))
    pages = list(iam.get_paginator("list_users").paginate())
    assert [user["UserName"] for page in pages for user in page["Users"]] == whole
    assert len(pages) == len(whole)
    keys = list(iam.get_paginator("list_access_keys").paginate(UserName="data-import"))
    assert [len(page["AccessKeyMetadata"]) for page in keys] == [1, 1, 1]


def test_a_user_has_a_path_and_is_found_by_name(company: Sandbox, client: Any, refused: Any) -> None:
    iam = client(company, "iam")
    user = iam.get_user(UserName="ci-deploy")["User"]
    assert user["Arn"] == "arn:aws:iam::111122223333:user/automation/ci/ci-deploy"
    found = iam.list_users(PathPrefix="/automation/")["Users"]
    assert [entry["UserName"] for entry in found] == ["ci-deploy"]
    assert iam.get_user()["User"]["UserName"] == "ops"
    assert refused(iam.get_user, UserName="nobody") == (
        "NoSuchEntity",
        404,
        "The user with name nobody cannot be found.",
    )
    assert refused(iam.get_user, UserName="no body")[0] == "ValidationError"


def test_dates_have_the_precision_of_seconds(company: Sandbox, client: Any) -> None:
    iam = client(company, "iam")
    created = iam.create_access_key(UserName="docs-site")["AccessKey"]["CreateDate"]
    assert created.microsecond == 0
    listed = iam.list_access_keys(UserName="docs-site")["AccessKeyMetadata"]
    assert listed[-1]["CreateDate"] == created


def test_a_status_is_set_and_read_back(company: Sandbox, client: Any, refused: Any) -> None:
    iam = client(company, "iam")
    key = company.key("web-frontend")
    iam.update_access_key(UserName="web-frontend", AccessKeyId=key.id, Status="Inactive")
    assert statuses(iam, "web-frontend")[key.id] == "Inactive"
    iam.update_access_key(UserName="web-frontend", AccessKeyId=key.id, Status="Active")
    assert statuses(iam, "web-frontend")[key.id] == "Active"

    update = iam.update_access_key
    assert refused(update, UserName="web-frontend", AccessKeyId=key.id, Status="Expired")[:2] == (
        "ValidationError",
        400,
    )
    unknown = refused(update, UserName="docs-site", AccessKeyId=key.id, Status="Inactive")
    assert unknown == ("NoSuchEntity", 404, f"The Access Key with id {key.id} cannot be found.")
    assert statuses(iam, "web-frontend")[key.id] == "Active"
    company.state.keys[key.id].status = "Expired"
    assert statuses(iam, "web-frontend")[key.id] == "Expired"
    assert (
        refused(update, UserName="web-frontend", AccessKeyId=key.id, Status="Active")[0] == "ValidationError"
    )


def test_without_a_user_name_it_is_the_callers_own_key(company: Sandbox, client: Any, refused: Any) -> None:
    other, own = company.key("web-frontend"), company.key("data-import", number=1)
    iam = client(company, "iam", "data-import")
    assert refused(iam.update_access_key, AccessKeyId=other.id, Status="Inactive")[0] == "NoSuchEntity"
    iam.update_access_key(AccessKeyId=company.key("data-import", number=2).id, Status="Inactive")
    listed = iam.list_access_keys()["AccessKeyMetadata"]
    assert [key["Status"] for key in listed] == ["Active", "Inactive", "Active"]
    iam.update_access_key(AccessKeyId=own.id, Status="Inactive")
    assert refused(iam.list_access_keys)[0] == "InvalidClientTokenId"


def test_a_user_has_two_keys_at_most_and_the_scenario_more(
    company: Sandbox, client: Any, refused: Any
) -> None:
    iam = client(company, "iam")
    assert len(statuses(iam, "data-import")) == 3
    made = iam.create_access_key(UserName="carol")["AccessKey"]
    iam.create_access_key(UserName="carol")
    assert refused(iam.create_access_key, UserName="carol") == (
        "LimitExceeded",
        409,
        "Cannot exceed quota for AccessKeysPerUser: 2",
    )
    session = {"Credentials": {**made, "SessionToken": None}}
    assert client(company, "sts", session).get_caller_identity()["Arn"].endswith("user/people/carol")
    assert refused(iam.delete_user, UserName="carol")[:2] == ("DeleteConflict", 409)
    for id_ in statuses(iam, "carol"):
        iam.delete_access_key(UserName="carol", AccessKeyId=id_)
    iam.delete_user(UserName="carol")
    assert refused(iam.list_access_keys, UserName="carol")[0] == "NoSuchEntity"
    iam.create_user(UserName="carol")
    assert refused(iam.create_user, UserName="Carol")[:2] == ("EntityAlreadyExists", 409)
    assert statuses(iam, "carol") == {}


def test_last_use_of_a_key(company: Sandbox, client: Any, refused: Any, clock: SandboxClock) -> None:
    iam = client(company, "iam")
    never = company.key("mobile-api", number=2)
    received = iam.get_access_key_last_used(AccessKeyId=never.id)
    assert received["UserName"] == "mobile-api"
    assert received["AccessKeyLastUsed"] == {"ServiceName": "N/A", "Region": "N/A"}

    client(company, "s3", never, region="eu-central-1").put_object(Bucket="b", Key="k", Body=b"x")
    first = iam.get_access_key_last_used(AccessKeyId=never.id)["AccessKeyLastUsed"]
    assert (first["ServiceName"], first["Region"]) == ("s3", "eu-central-1")
    assert first["LastUsedDate"] == clock.now().replace(microsecond=0)
    clock.advance(timedelta(minutes=14))
    client(company, "sts", never).get_caller_identity()
    assert iam.get_access_key_last_used(AccessKeyId=never.id)["AccessKeyLastUsed"] == first
    clock.advance(timedelta(minutes=1))
    client(company, "sts", never).get_caller_identity()
    later = iam.get_access_key_last_used(AccessKeyId=never.id)["AccessKeyLastUsed"]
    assert later["LastUsedDate"] - first["LastUsedDate"] == timedelta(minutes=15)
    assert later["ServiceName"] == "sts"

    elsewhere = company.key("web-frontend", account="222233334444")
    code, status, message = refused(iam.get_access_key_last_used, AccessKeyId=elsewhere.id)
    assert (code, status) == ("AccessDenied", 403)
    assert f"iam:GetAccessKeyLastUsed on resource: access key {elsewhere.id}" in message


def test_a_refused_call_with_an_inactive_key_is_no_use(company: Sandbox, client: Any, refused: Any) -> None:
    key = company.key("alice")
    before = list(key.uses)
    assert refused(client(company, "sts", key).get_caller_identity)[0] == "InvalidClientTokenId"
    assert key.uses == before


def test_the_account_has_an_alias_and_a_summary(company: Sandbox, client: Any) -> None:
    iam = client(company, "iam")
    assert iam.list_account_aliases()["AccountAliases"] == ["practice-company"]
    summary = iam.get_account_summary()["SummaryMap"]
    assert summary["Users"] == len(company.state.accounts["111122223333"].users)
    assert summary["AccountAccessKeysPresent"] == 0
    assert summary["AccessKeysPerUserQuota"] == 2


SIMULATED = """
[[account]]
id = "111122223333"
user = [{ name = "auditor", allow = ["iam:List*", "iam:GetUser"], key = [{ age = "1d" }] }]
role = [{ name = "Reader", allow = ["iam:*"] }]
[caller]
account = "111122223333"
user = "auditor"
[[fault]]
kind = "deny"
action = "iam:ListAccountAliases"
"""


def test_policies_are_simulated_as_calls_are_answered(client: Any, refused: Any) -> None:
    sandbox = Sandbox(SIMULATED.replace('"iam:GetUser"', '"iam:Simulate*"'))
    iam = client(sandbox, "iam")
    actions = ["iam:ListUsers", "iam:ListAccountAliases", "iam:UpdateAccessKey", "sts:AssumeRole"]

    def decisions(arn: str) -> list[str]:
        results = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)["EvaluationResults"]
        assert [result["EvalActionName"] for result in results] == actions
        return [result["EvalDecision"] for result in results]

    received = decisions("arn:aws:iam::111122223333:user/auditor")
    assert received == ["allowed", "explicitDeny", "implicitDeny", "implicitDeny"]
    assert decisions("arn:aws:iam::111122223333:role/Reader") == [
        "allowed",
        "explicitDeny",
        "allowed",
        "implicitDeny",
    ]
    iam.list_users()
    _, _, message = refused(iam.list_account_aliases)
    assert message.startswith("User: arn:aws:iam::111122223333:user/auditor is not authorized to perform: ")
    assert message.endswith("with an explicit deny in an identity-based policy")
    assert (
        "no identity-based policy allows"
        in refused(iam.update_access_key, UserName="auditor", AccessKeyId="AKIA", Status="Active")[2]
    )
    for arn in ("arn:aws:sts::111122223333:assumed-role/Reader/x", "nonsense"):
        assert (
            refused(iam.simulate_principal_policy, PolicySourceArn=arn, ActionNames=["a:b"])[0]
            == "InvalidInput"
        )
    gone = "arn:aws:iam::111122223333:user/gone"
    assert (
        refused(iam.simulate_principal_policy, PolicySourceArn=gone, ActionNames=["a:b"])[0] == "NoSuchEntity"
    )


def test_users_of_one_name_live_in_two_accounts(company: Sandbox, client: Any) -> None:
    assert company.key("web-frontend").id != company.key("web-frontend", account="222233334444").id
    arns = [
        client(company, "sts", company.key("web-frontend", account=account)).get_caller_identity()["Arn"]
        for account in ("111122223333", "222233334444")
    ]
    assert arns == [
        "arn:aws:iam::111122223333:user/apps/web-frontend",
        "arn:aws:iam::222233334444:user/web-frontend",
    ]


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov", "aws-eusc"])
def test_other_partitions_have_their_own_arns(client: Any, partition: str) -> None:
    sandbox = Sandbox(f'partition = "{partition}"\n[[account]]\nid = "111122223333"')
    arn = client(sandbox, "sts").get_caller_identity()["Arn"]
    assert arn == f"arn:{partition}:iam::111122223333:user/operator"


def test_a_renamed_user_keeps_keys_id_and_creation(company: Sandbox, client: Any, refused: Any) -> None:
    iam = client(company, "iam")
    before = iam.get_user(UserName="data-import")["User"]
    keys = statuses(iam, "data-import")
    iam.update_user(UserName="data-import", NewUserName="importer", NewPath="/team/")
    after = iam.get_user(UserName="importer")["User"]
    assert (after["UserId"], after["CreateDate"]) == (before["UserId"], before["CreateDate"])
    assert after["Arn"] == "arn:aws:iam::111122223333:user/team/importer"
    assert statuses(iam, "importer") == keys
    assert refused(iam.list_access_keys, UserName="data-import")[:2] == ("NoSuchEntity", 404)
    first = next(iter(keys))
    code = refused(iam.update_access_key, UserName="data-import", AccessKeyId=first, Status="Inactive")[0]
    assert code == "NoSuchEntity"
    assert iam.get_access_key_last_used(AccessKeyId=first)["UserName"] == "importer"
    iam.update_access_key(UserName="importer", AccessKeyId=first, Status="Inactive")
    names = [user["UserName"] for user in iam.list_users()["Users"]]
    assert "importer" in names
    assert "data-import" not in names


def test_a_name_that_another_user_has_is_refused_in_any_case(
    company: Sandbox, client: Any, refused: Any
) -> None:
    iam = client(company, "iam")
    asked = {"UserName": "data-import"}
    assert refused(iam.update_user, **asked, NewUserName="OPS")[:2] == ("EntityAlreadyExists", 409)
    assert refused(iam.update_user, **asked, NewUserName="no body")[0] == "ValidationError"
    assert refused(iam.update_user, **asked, NewUserName="x" * 65)[0] == "ValidationError"
    assert refused(iam.update_user, **asked, NewPath="team")[0] == "ValidationError"
    assert refused(iam.update_user, UserName="nobody", NewUserName="x")[:2] == ("NoSuchEntity", 404)
    iam.update_user(**asked, NewUserName="Data-Import")  # another case of its own name
    assert statuses(iam, "Data-Import")
    assert refused(iam.get_user, **asked)[0] == "NoSuchEntity"


def test_a_stale_replica_knows_the_user_by_the_old_name(company: Sandbox, client: Any, refused: Any) -> None:
    iam = client(company, "iam")
    iam.update_user(UserName="data-import", NewUserName="importer")
    company.state.faults.append(Stale(action="iam:List*", seconds=60))
    company.advance(30)
    assert statuses(iam, "data-import")
    assert refused(iam.list_access_keys, UserName="importer")[0] == "NoSuchEntity"
    assert "data-import" in [user["UserName"] for user in iam.list_users()["Users"]]
    company.advance(31)
    assert statuses(iam, "importer")


def test_the_event_of_a_rename_names_both_names(company: Sandbox, client: Any) -> None:
    client(company, "iam").update_user(UserName="data-import", NewUserName="importer")
    asked = [{"AttributeKey": "EventName", "AttributeValue": "UpdateUser"}]
    (event,) = client(company, "cloudtrail").lookup_events(LookupAttributes=asked)["Events"]
    record = json.loads(event["CloudTrailEvent"])
    assert record["requestParameters"] == {"userName": "data-import", "newUserName": "importer"}
    assert record["eventName"] == "UpdateUser"


LEAKED = """
[[account]]
id = "111122223333"
[[account.user]]
name = "leaked"
policies = ["AWSCompromisedKeyQuarantineV2"]
[[account.user]]
name = "leaked-too"
policies = ["AWSCompromisedKeyQuarantineV2", "AWSCompromisedKeyQuarantineV3"]
"""


def test_the_users_of_a_quarantine_policy_are_listed_page_by_page(client: Any, refused: Any) -> None:
    company = Sandbox(LEAKED)
    iam = client(company, "iam")
    arn = "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantine"
    company.state.faults.append(ShortPages(action="iam:ListEntitiesForPolicy", size=1))

    def users(policy: str, **more: str) -> list[str]:
        pages = iam.get_paginator("list_entities_for_policy").paginate(PolicyArn=policy, **more)
        return [user["UserName"] for page in pages for user in page["PolicyUsers"]]

    assert users(arn + "V2", EntityFilter="User") == ["leaked", "leaked-too"]
    assert users(arn + "V3") == ["leaked-too"]
    assert users(arn) == []
    assert users(arn + "V2", EntityFilter="Role") == []
    asked = {"PolicyArn": arn + "V2", "EntityFilter": "Robot"}
    assert refused(iam.list_entities_for_policy, **asked)[0] == "ValidationError"
    other = "arn:aws-cn:iam::aws:policy/AWSCompromisedKeyQuarantineV2"
    assert refused(iam.list_entities_for_policy, PolicyArn=other)[:2] == ("NoSuchEntity", 404)
    assert refused(iam.delete_user, UserName="leaked")[:2] == ("DeleteConflict", 409)
