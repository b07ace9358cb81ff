"""STS: sessions of users, roles and the root user of a member account."""

from datetime import timedelta
from typing import Any

from sparekey.sandbox import Sandbox, SandboxClock

PRODUCTION = "222233334444"
AUDIT = f"arn:aws:iam::{PRODUCTION}:role/SparekeyAudit"
APPLY = f"arn:aws:iam::{PRODUCTION}:role/SparekeyApply"


def assume(sts: Any, arn: str = AUDIT, **params: Any) -> Any:
    """Assume a role of the production account."""
    return sts.assume_role(**{"RoleArn": arn, "RoleSessionName": "audit", "ExternalId": "practice"} | params)


def test_a_role_is_assumed_with_its_external_id(
    company: Sandbox, client: Any, refused: Any, clock: SandboxClock
) -> None:
    sts = client(company, "sts")
    session = assume(sts)
    assert session["Credentials"]["Expiration"] == clock.now().replace(microsecond=0) + timedelta(hours=1)
    identity = client(company, "sts", session).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{PRODUCTION}:assumed-role/SparekeyAudit/audit"
    assert session["AssumedRoleUser"]["AssumedRoleId"] == identity["UserId"]
    users = client(company, "iam", session).list_users()["Users"]
    assert [user["UserName"] for user in users] == ["web-frontend"]

    denied = ("AccessDenied", 403)
    assert refused(assume, sts=sts, ExternalId="wrong")[:2] == denied
    assert refused(assume, sts=sts, ExternalId=None)[:2] == denied
    assert refused(assume, sts=sts, arn=AUDIT + "2")[:2] == denied
    assert refused(assume, sts=sts, arn=AUDIT.replace(PRODUCTION, "999999999999"))[:2] == denied
    outside = client(company, "sts", "load-test", account="333344445555")
    code, _, message = refused(assume, sts=outside)
    assert code == "AccessDenied"
    assert message == (
        "User: arn:aws:iam::333344445555:user/load-test is not authorized to perform: "
        f"sts:AssumeRole on resource: {AUDIT}"
    )
    assert refused(assume, sts=sts, arn="nonsense")[0] == "ValidationError"


def test_how_long_a_role_session_lasts(company: Sandbox, client: Any, refused: Any) -> None:
    sts = client(company, "sts")
    assume(sts, DurationSeconds=12 * 3600)
    assert refused(assume, sts=sts, DurationSeconds=12 * 3600 + 1)[0] == "ValidationError"
    assert refused(assume, sts=sts, DurationSeconds=899)[0] == "ValidationError"
    assert "MaxSessionDuration" in refused(assume, sts=sts, arn=APPLY, DurationSeconds=3601)[2]
    company.state.accounts[PRODUCTION].roles["SparekeyAudit"].trust = ("*",)
    chained = client(company, "sts", assume(sts))
    assume(chained, DurationSeconds=3600)
    assert "role chaining" in refused(assume, sts=chained, DurationSeconds=3601)[2]


def test_what_a_users_own_session_may_not_do(company: Sandbox, client: Any, refused: Any) -> None:
    sts = client(company, "sts")
    session = sts.get_session_token()
    assert refused(client(company, "iam", session).list_users)[0] == "InvalidClientTokenId"
    assert refused(client(company, "sts", session).get_session_token)[0] == "AccessDenied"
    assume(client(company, "sts", session))
    with_mfa = sts.get_session_token(SerialNumber="arn:aws:iam::111122223333:mfa/ops", TokenCode="123456")
    assert client(company, "iam", with_mfa).list_users()["Users"]
    assert refused(sts.get_session_token, DurationSeconds=36 * 3600 + 1)[0] == "ValidationError"

    federated = sts.get_federation_token(Name="partner", DurationSeconds=36 * 3600)
    assert federated["FederatedUser"]["FederatedUserId"] == "111122223333:partner"
    identity = client(company, "sts", federated).get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::111122223333:federated-user/partner"
    assert refused(client(company, "iam", federated).list_users)[0] == "InvalidClientTokenId"
    assert refused(assume, sts=client(company, "sts", federated))[0] == "AccessDenied"
    assert refused(sts.get_federation_token, Name="x")[0] == "ValidationError"
    assert (
        refused(client(company, "sts", assume(sts)).get_federation_token, Name="partner")[0] == "AccessDenied"
    )


def test_a_key_tells_its_account(company: Sandbox, client: Any, refused: Any) -> None:
    sts = client(company, "sts")
    elsewhere = company.key("load-test", account="333344445555")
    assert sts.get_access_key_info(AccessKeyId=elsewhere.id)["Account"] == "333344445555"
    assert refused(sts.get_access_key_info, AccessKeyId="AKIAUNKNOWN")[0] == "ValidationError"


def root(
    sts: Any, account: str = PRODUCTION, task: str = "IAMAuditRootUserCredentials", **params: Any
) -> Any:
    """A session of a member account's root user."""
    policy = {"arn": f"arn:aws:iam::aws:policy/root-task/{task}"}
    return sts.assume_root(TargetPrincipal=account, TaskPolicyArn=policy, **params)


def test_root_keys_of_a_member_are_listed_and_deleted_but_never_deactivated(
    company: Sandbox, client: Any, refused: Any, clock: SandboxClock
) -> None:
    sts = client(company, "sts")
    session = root(sts, f"arn:aws:iam::{PRODUCTION}:root")
    assert session["Credentials"]["Expiration"] == clock.now().replace(microsecond=0) + timedelta(minutes=15)
    iam = client(company, "iam", session)
    (key,) = iam.list_access_keys()["AccessKeyMetadata"]
    assert "UserName" not in key
    assert (
        iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]["ServiceName"]
        == "iam"
    )
    assert iam.get_user()["User"]["Arn"] == f"arn:aws:iam::{PRODUCTION}:root"
    for call, params in (
        (iam.update_access_key, {"AccessKeyId": key["AccessKeyId"], "Status": "Inactive"}),
        (iam.delete_access_key, {"AccessKeyId": key["AccessKeyId"]}),
        (iam.list_users, {}),
    ):
        assert refused(call, **params)[0] == "AccessDenied"
    deleting = client(company, "iam", root(sts, task="IAMDeleteRootUserCredentials"))
    deleting.delete_access_key(AccessKeyId=key["AccessKeyId"])
    assert deleting.list_access_keys()["AccessKeyMetadata"] == []


def test_who_may_become_root_of_whom(company: Sandbox, client: Any, refused: Any) -> None:
    sts = client(company, "sts")
    assert refused(root, sts=sts, account="111122223333")[0] == "AccessDenied"
    assert refused(root, sts=sts, account="444455556666")[0] == "AccessDenied"
    assert refused(root, sts=sts, account="999999999999")[0] == "AccessDenied"
    assert refused(root, sts=sts, task="AdministratorAccess")[0] == "ValidationError"
    assert refused(root, sts=sts, DurationSeconds=901)[0] == "ValidationError"
    member = client(company, "sts", "load-test", account="333344445555")
    assert refused(root, sts=member)[0] == "AccessDenied"
