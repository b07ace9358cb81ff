"""Who AWS reports that a credential source is, and what becomes of one that nobody can identify."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
    create_mfa_serial_refresher,
)
from botocore.session import Session

from sparekey.aws.credential_chain import ChainCredentials, ProfileStore
from sparekey.aws.credential_errors import ChainLink, CredentialSetup
from sparekey.aws.errors import AwsError, NoCredentialsError, RejectedCredentialsError
from sparekey.aws.gateway import AwsGateway
from sparekey.aws.http_pool import HttpResponse
from sparekey.aws.signers import SigningIdentities
from sparekey.decision import DecisionContext, Overrides
from sparekey.model import ANY, AccessKey, Caller, LastUsed, User
from sparekey.policy import Policy
from sparekey.selection import HOLD_REASONS, HeldKey, choose
from support.clocks import VirtualClock
from support.sandbox_gateway import SandboxGateway
from support.scripted_aws import ACCOUNT, START, ScriptedAws, connect, failure, identity, ok, session

OTHER = "444455556666"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/Ops/ann"
COMPANY = f"""
caller = {{ account = "{ACCOUNT}", user = "ann" }}
[[account]]
id = "{ACCOUNT}"
[[account.user]]
name = "ann"
key = [{{ age = "20d" }}]
[[account.role]]
name = "Anybody"
[[account.role]]
name = "Hub"
trust = ["arn:aws:iam::{ACCOUNT}:root", "{OTHER}"]
[[account.role]]
name = "Ann"
trust = ["arn:aws:iam::{ACCOUNT}:user/ann", "AIDAIOSFODNN7EXAMPLE"]
[[account.role]]
name = "Chained"
trust = [
  "arn:aws:iam::{ACCOUNT}:role/Ann",
  "arn:aws:sts::{ACCOUNT}:assumed-role/Chained/x",
  "arn:aws:iam::{ACCOUNT}:root",
]
[[account.role]]
name = "Foreign"
trust = ["arn:aws:iam::{OTHER}:role/x", "arn:aws:iam::{ACCOUNT}:root"]
[[account.role]]
name = "AWSReservedSSO_Admin_0123456789abcdef"
"""


def caller_of(role: str) -> Caller:
    """Who signs where a session of a role was passed in."""
    aws = SandboxGateway(COMPANY)
    received = aws.gateway.own_account().call(
        "sts", "AssumeRole", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}", "RoleSessionName": "ci"}
    )["Credentials"]
    made = session()
    made.set_credentials(received["AccessKeyId"], received["SecretAccessKey"], received["SessionToken"])
    gateway = AwsGateway.connect(session=made, region="us-east-1", clock=aws.sandbox.clock, send=aws._send)
    return gateway.caller()


@pytest.mark.parametrize(
    ("role", "suspects"),
    [
        ("Anybody", {(ANY, ANY)}),
        ("Hub", {(ACCOUNT, ANY), (OTHER, ANY)}),
        ("Ann", {(ACCOUNT, "ann")}),
        ("Chained", {(ACCOUNT, "ann"), (ACCOUNT, ANY)}),
        ("Foreign", {(ACCOUNT, ANY), (ANY, ANY)}),
        ("AWSReservedSSO_Admin_0123456789abcdef", set()),
    ],
)
def test_whoever_a_role_lets_in_may_have_taken_a_session_that_was_passed_in(
    role: str, suspects: set[tuple[str, str]]
) -> None:
    caller = caller_of(role)
    assert caller.suspects == suspects
    assert bool(caller.unknown) == bool(suspects)
    assert caller.users == frozenset()
    for why in caller.unknown:
        assert f"a session of the role {role} in account {ACCOUNT}" in why


def scripted(arn: str, *, token: str | None = "t", method: str = "explicit", **answers: Any) -> Caller:
    made = session()
    made._credentials = Credentials("ASIAX", "s", token, method)
    aws = ScriptedAws(GetCallerIdentity=lambda _: identity(arn), **answers)
    return AwsGateway.connect(
        session=made, region="eu-west-1", clock=VirtualClock(START), send=aws.send
    ).caller()


@pytest.mark.parametrize(
    "answer",
    [
        failure("AccessDenied", 403, "not authorized"),
        ok("GetRole", "<Role><AssumeRolePolicyDocument>nonsense</AssumeRolePolicyDocument></Role>"),
        ok("GetRole", "<Role><AssumeRolePolicyDocument>{}</AssumeRolePolicyDocument></Role>"),
        ok("GetRole", ""),
    ],
    ids=["denied", "no-json", "empty", "no-role"],
)
def test_a_role_that_cannot_be_read_may_let_anybody_in(answer: HttpResponse) -> None:
    caller = scripted(ROLE, GetRole=lambda _: answer)
    assert caller.suspects == {(ANY, ANY)}
    assert "(" in caller.unknown[0]


@pytest.mark.parametrize(
    ("statement", "suspects"),
    [
        ('{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"}}', set()),
        ('{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/x"}}', set()),
        ('{"Effect":"Deny","Principal":"*"}', set()),
        ('[{"Effect":"Allow","Principal":"*"}]', {(ANY, ANY)}),
        ('{"Effect":"Allow","NotPrincipal":{"AWS":"x"}}', {(ANY, ANY)}),
        ('{"Effect":"Allow","Principal":{"AWS":["444455556666","AIDAIOSFODNN7EXAMPLE"]}}', {(OTHER, ANY)}),
        ('{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:user/a/b"}}', {(OTHER, "b")}),
        ('{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:role/a/AWSReservedSSO_x"}}', set()),
        (
            '{"Effect":"Allow","Principal":{"AWS":"arn:aws:sts::444455556666:federated-user/x"}}',
            {(OTHER, ANY)},
        ),
    ],
)
def test_a_trust_policy_names_who_may_have_taken_a_session(
    statement: str, suspects: set[tuple[str, str]]
) -> None:
    document = (
        f'<Role><AssumeRolePolicyDocument>{{"Statement":{statement}}}</AssumeRolePolicyDocument></Role>'
    )
    assert scripted(ROLE, GetRole=lambda _: ok("GetRole", document)).suspects == suspects


def test_a_federated_session_was_taken_by_some_users_key() -> None:
    assert scripted(f"arn:aws:sts::{ACCOUNT}:federated-user/x").suspects == {(ACCOUNT, ANY)}


@pytest.mark.parametrize(
    "method", ["iam-role", "container-role", "sso", "assume-role-with-web-identity", "login"]
)
def test_a_session_that_aws_gave_out_has_no_key_behind_it(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")
    caller = scripted(ROLE, method=method)
    assert (caller.suspects, caller.unknown, caller.users) == (frozenset(), (), frozenset())


def test_a_program_on_this_machine_that_plays_the_container_is_asked_whose_key_it_has() -> None:
    found = Credentials("ASIAX", "s", "t", "container-role")
    for uri in (
        "http://127.0.0.1:9/x",
        "http://localhost/x",
        "http://[::1]:8/x",
        "http://someone@127.0.0.1/x",
        "https://vault.example/x",
        "http://[",
    ):
        environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri}
        assert not ChainCredentials(found, CredentialSetup("", (), environ)).given_by_aws()
    eks = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"}
    assert ChainCredentials(found, CredentialSetup("", (), eks)).given_by_aws()
    ecs = {
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost",
    }
    assert ChainCredentials(found, CredentialSetup("", (), ecs)).given_by_aws()


def test_a_program_that_plays_the_instances_endpoint_is_asked_whose_key_it_has() -> None:
    found, name = Credentials("ASIAX", "s", "t", "iam-role"), "AWS_EC2_METADATA_SERVICE_ENDPOINT"
    for host, aws in (
        ("127.0.0.1:9911", False),
        ("localhost", False),
        ("169.254.169.254", True),
        ("[fd00:ec2::254]", True),
    ):
        assert (
            ChainCredentials(found, CredentialSetup("", (), {name: f"http://{host}/"})).given_by_aws() is aws
        )
        link = ChainLink("p", {"ec2_metadata_service_endpoint": f"http://{host}"})
        assert ChainCredentials(found, CredentialSetup("p", (link,), {})).given_by_aws() is aws


# --- chains ---


def role_over(source: Credentials, *, mfa: bool = False) -> DeferredRefreshableCredentials:
    """A role as botocore takes it for a profile; no call is made."""
    fetcher = AssumeRoleCredentialFetcher(lambda *_, **__: None, source, "arn:aws:iam::1:role/R")
    fetch = {"access_key": "ASIATOP", "secret_key": "s", "token": "t", "expiry_time": "2099-01-01T00:00:00Z"}
    fetcher._get_cached_credentials = lambda: fetch
    refresh = create_mfa_serial_refresher(fetcher.fetch_credentials) if mfa else fetcher.fetch_credentials
    return DeferredRefreshableCredentials(refresh, "assume-role")


def gateway_of(found: object, aws: ScriptedAws, clock: VirtualClock | None = None) -> AwsGateway:
    made = session()
    made._credentials = found
    return AwsGateway.connect(
        session=made, region="eu-west-1", clock=clock or VirtualClock(START), send=aws.send
    )


class ByKey:
    """Answers GetCallerIdentity by the key that signs."""

    def __init__(self, **answers: HttpResponse) -> None:
        self.answers = answers
        self.aws = ScriptedAws(GetCallerIdentity=self._identity)

    def _identity(self, _: dict[str, str]) -> HttpResponse:
        signer = self.aws.requests[-1].headers["Authorization"]
        return next(answer for key, answer in self.answers.items() if key in signer)


USER = identity(f"arn:aws:iam::{OTHER}:user/team/ann", OTHER)


@pytest.mark.parametrize("mfa", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_user_at_the_bottom_of_a_chain_is_protected_in_its_own_account(depth: int, mfa: bool) -> None:
    found: Any = Credentials("AKIABASE", "s", None, "shared-credentials-file")
    for _ in range(depth):
        found = role_over(found, mfa=mfa)
    asked = ByKey(ASIATOP=identity(ROLE), AKIABASE=USER)
    caller = gateway_of(found, asked.aws).caller()
    assert caller.arn == ROLE
    assert caller.users == {(OTHER, "ann")}
    assert caller.keys == {"AKIABASE"}
    assert (caller.protects(OTHER, "ann", []), caller.protects(ACCOUNT, "ann", [])) == ("caller", "")
    assert caller.unknown == ()


def test_a_session_at_the_bottom_protects_every_key_of_its_user() -> None:
    found = role_over(Credentials("ASIAMFA", "s", "t", "config-file"))
    asked = ByKey(ASIATOP=identity(ROLE), ASIAMFA=USER)
    caller = gateway_of(found, asked.aws).caller()
    assert caller.users == {(OTHER, "ann")}
    assert caller.keys == frozenset()


def test_a_source_that_botocore_no_longer_shows_may_be_anybody() -> None:
    found = DeferredRefreshableCredentials(
        role_over(Credentials("A", "s"))._refresh_using.__func__, "assume-role"
    )
    chain = ChainCredentials(found, CredentialSetup("x", (), {}))
    assert not chain.complete
    loop = role_over(Credentials("A", "s"))
    loop._refresh_using.__self__._source_credentials = loop
    asked = ByKey(ASIATOP=identity(ROLE))
    caller = gateway_of(loop, asked.aws).caller()
    assert caller.suspects == {(ANY, ANY)}
    assert "are not known" in caller.unknown[0]


def test_a_key_that_does_not_say_who_it_is_stays_protected_by_its_id_and_that_is_told() -> None:
    found = role_over(Credentials("AKIABASE", "s", None, "config-file"))
    asked = ByKey(ASIATOP=identity(ROLE), AKIABASE=failure("InvalidClientTokenId", 403))
    caller = gateway_of(found, asked.aws).caller()
    assert caller.keys == {"AKIABASE"}
    assert caller.users == frozenset()
    assert caller.suspects == frozenset()
    assert "AWS did not identify who signs" in caller.unknown[0]
    assert "InvalidClientTokenId" in caller.unknown[0]


def test_a_session_that_does_not_say_who_it_is_may_be_any_user_of_its_account() -> None:
    found = role_over(Credentials("ASIAMFA", "s", "t", "config-file"))
    asked = ByKey(ASIATOP=identity(ROLE), ASIAMFA=failure("ExpiredToken", 403))
    asked.aws._answers["GetAccessKeyInfo"] = lambda _: ok("GetAccessKeyInfo", f"<Account>{OTHER}</Account>")
    assert gateway_of(found, asked.aws).caller().suspects == {(OTHER, ANY)}
    asked.aws._answers["GetAccessKeyInfo"] = lambda _: failure("AccessDenied", 403)
    assert gateway_of(found, asked.aws).caller().suspects == {(ANY, ANY)}


def test_who_signs_is_asked_again_after_a_minute_and_a_new_key_at_once() -> None:
    base = Credentials("AKIABASE", "s", None, "custom-process")
    asked = ByKey(AKIABASE=identity(), AKIANEXT=USER)
    clock = VirtualClock(START)
    gateway = gateway_of(base, asked.aws, clock)
    assert gateway.caller(again=True) == gateway.caller(again=True)
    assert asked.aws.count("GetCallerIdentity") == 1
    clock.time += timedelta(minutes=2)
    asked.answers["AKIABASE"] = identity(f"arn:aws:iam::{ACCOUNT}:user/renamed")
    assert gateway.caller(again=True).users == {(ACCOUNT, "renamed")}
    clock.time -= timedelta(minutes=5)  # a clock that was set back
    assert gateway.caller(again=True).users == {(ACCOUNT, "renamed")}
    assert asked.aws.count("GetCallerIdentity") == 3
    asked.answers["AKIABASE"] = failure("ExpiredToken", 403)
    clock.time += timedelta(minutes=9)
    assert gateway.caller(again=True).users == {(ACCOUNT, "renamed")}  # it was this identity's all the same
    base.access_key = "AKIANEXT"
    assert gateway.caller(again=True).users == {(OTHER, "ann")}


def test_a_source_that_fails_later_on_keeps_its_user_protected() -> None:
    class Helper(Credentials):  # type: ignore[misc]  # botocore ships no types
        fails = False

        def get_frozen_credentials(self) -> Any:
            if self.fails:
                raise FileNotFoundError(2, "No such file or directory", "/none")
            return super().get_frozen_credentials()

    helper = Helper("AKIABASE", "s", None, "custom-process")
    asked = ByKey(ASIATOP=identity(ROLE), AKIABASE=USER)
    gateway = gateway_of(role_over(helper), asked.aws)
    assert gateway.caller().users == {(OTHER, "ann")}
    helper.fails = True
    later = gateway.caller(again=True)
    assert later.users == {(OTHER, "ann")}
    assert "could not be asked" in later.unknown[0]
    assert later.suspects == frozenset()


@pytest.mark.parametrize(("method", "suspects"), [("custom-process", {(ANY, ANY)}), ("sso", set())])
def test_a_source_that_gave_a_roles_session_and_fails_later_on_may_be_anybodys(
    method: str, suspects: set[tuple[str, str]]
) -> None:
    class Source(Credentials):  # type: ignore[misc]  # botocore ships no types
        def get_frozen_credentials(self) -> Any:
            if self.access_key == "gone":
                raise FileNotFoundError(2, "No such file or directory", "/none")
            return super().get_frozen_credentials()

    source = Source("ASIABASE", "s", "t", method)
    asked = ByKey(ASIATOP=identity(ROLE), ASIABASE=identity(ROLE))
    gateway = gateway_of(role_over(source), asked.aws)
    gateway.caller()
    source.access_key = "gone"
    later = gateway.caller(again=True)
    assert later.users == frozenset()
    assert later.suspects == suspects
    assert "could not be asked" in later.unknown[0]


def test_a_source_that_cannot_be_asked_may_be_anybody() -> None:
    class Gone(Credentials):  # type: ignore[misc]  # botocore ships no types
        def get_frozen_credentials(self) -> Any:
            raise FileNotFoundError(2, "No such file or directory", "/none")

    aws = ScriptedAws()
    client = connect(aws).client
    base = ChainCredentials(Credentials("AKIAX", "s"), CredentialSetup("", (), {}))
    other = ChainCredentials(Gone("AKIABASE", "s", None, "custom-process"), CredentialSetup("x", (), {}))
    caller = SigningIdentities(client).caller(base, [other], ["AKIASTATIC"], again=False)
    assert caller.suspects == {(ANY, ANY)}
    assert caller.keys == {"AKIAX", "AKIASTATIC"}


def test_the_base_that_cannot_be_asked_ends_it() -> None:
    asked = ByKey(AKIABASE=failure("InvalidClientTokenId", 403))
    with pytest.raises(RejectedCredentialsError):
        gateway_of(Credentials("AKIABASE", "s"), asked.aws).caller()


def test_a_profile_that_is_not_there_has_no_key() -> None:
    def fails(_: str) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "/none")

    profiles = ProfileStore(fails, session())
    profiles.name(frozenset({"nobody"}))
    assert profiles.static_keys() == frozenset()
    with pytest.raises(NoCredentialsError):
        profiles.credentials("nobody")


def test_a_key_that_a_probe_is_run_with_is_protected_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile watch]\naws_access_key_id = AKIAWATCH\n")
    made = session(config_file=str(tmp_path / "config"))
    gateway = AwsGateway.connect(
        session=made, region="eu-west-1", clock=VirtualClock(START), send=ScriptedAws().send
    )
    gateway.protect_signing_key(key="AKIAPROBE", profile="watch")
    gateway.protect_signing_key()
    assert gateway.caller().keys == {"AKIAIOSFODNN7EXAMPLE", "AKIAPROBE", "AKIAWATCH"}


def test_a_sign_in_of_aws_login_is_used_and_its_user_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("awscrt", reason="the extra crt is not installed")
    login = "arn:aws:iam::111122223333:user/ops"
    kept = {"accessKeyId": "ASIALOGIN", "secretAccessKey": "s", "sessionToken": "t", "accountId": ACCOUNT}
    token: dict[str, object] = {"accessToken": {**kept, "expiresAt": "2099-01-01T00:00:00Z"}}
    token |= {"refreshToken": "r", "dpopKey": "d", "clientId": "c"}
    (tmp_path / f"{hashlib.sha256(login.encode()).hexdigest()}.json").write_text(json.dumps(token))
    (tmp_path / "config").write_text(f"[profile x]\nlogin_session = {login}\n")
    monkeypatch.setenv("AWS_LOGIN_CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    aws = ScriptedAws()
    gateway = AwsGateway.connect(profile="x", region="eu-west-1", clock=VirtualClock(START), send=aws.send)
    assert gateway.caller().users == {(ACCOUNT, "admin")}
    assert "ASIALOGIN" in aws.requests[0].headers["Authorization"]
    assert gateway.credentials_expire_at() is not None


@pytest.mark.parametrize("variable", ["", "AWS_REGION"])
@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws-us-gov", "us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
        ("aws-cn", "cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_profiles_role_is_assumed_at_its_partitions_own_sts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition: str, region: str, host: str, variable: str
) -> None:
    (tmp_path / "config").write_text(
        f"[profile x]\nrole_arn = arn:{partition}:iam::111122223333:role/R\nsource_profile = x\n"
        "aws_access_key_id = AKIAX\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    if variable:
        monkeypatch.setenv(variable, region)
    asked: list[str] = []

    def stop(request: Any, **_: Any) -> None:
        asked.append(request.url)
        raise ConnectionError

    made = Session(profile="x")
    made.register("before-send.sts.AssumeRole", stop)
    with pytest.raises(AwsError):
        AwsGateway.connect(session=made, region=None if variable else region).caller()
    assert asked == [f"https://{host}/"]


# --- when they end ---


def refreshable(method: str) -> RefreshableCredentials:
    return RefreshableCredentials("ASIAX", "s", "t", None, dict, method)


@pytest.mark.parametrize(
    ("found", "ends"),
    [
        (Credentials("AKIAX", "s"), False),
        (Credentials("ASIAX", "s", "t"), True),
        (refreshable("iam-role"), False),
        (refreshable("custom-process"), False),
        (refreshable("sso"), True),
        (refreshable("login"), True),
        (refreshable("env"), True),
        (role_over(Credentials("AKIAX", "s")), False),
        (role_over(Credentials("ASIAX", "s", "t")), True),
        (role_over(refreshable("sso")), True),
        (role_over(role_over(refreshable("login"))), True),
        (role_over(Credentials("AKIAX", "s"), mfa=True), True),
    ],
)
def test_credentials_that_nobody_renews_end(found: Any, ends: bool) -> None:
    aws = ScriptedAws()
    gateway = gateway_of(found, aws)
    assert (gateway.credentials_expire_at() is not None) == ends
    assert aws.requests == []


@pytest.mark.parametrize(
    ("config", "ends"),
    [
        ("aws_access_key_id = AKIAX", False),
        ("role_arn = r\nsource_profile = base\n[profile base]\nsso_account_id = 1", True),
        ("login_session = l", True),
        ("aws_session_token = t", True),
        ("role_arn = r\nmfa_serial = m", True),
    ],
)
def test_a_profile_of_an_accounts_file_that_nobody_renews_ends(
    tmp_path: Path, config: str, ends: bool
) -> None:
    (tmp_path / "config").write_text(f"[profile x]\n{config}\n")
    (tmp_path / "accounts.toml").write_text(f'[[account]]\nid = "{OTHER}"\nprofile = "x"\n')
    made = session(config_file=str(tmp_path / "config"))
    gateway = AwsGateway.connect(
        session=made, region="eu-west-1", clock=VirtualClock(START), send=ScriptedAws().send
    )
    gateway.accounts_file(tmp_path / "accounts.toml")
    assert (gateway.credentials_expire_at() is not None) == ends


# --- deciding ---


def test_a_suspect_is_held_forced_or_not_and_the_reason_says_why() -> None:
    now = VirtualClock(START).now()
    used = LastUsed("used", at=now, service="s3", region="eu-west-1")
    keys = (
        AccessKey("AKIAOLD", "Active", now - timedelta(days=200), LastUsed("never")),
        AccessKey("AKIANEW", "Active", now - timedelta(days=20), used),
    )
    user = User("ann", "", keys)
    for suspects in ({(ACCOUNT, "ann")}, {(ACCOUNT, ANY)}, {(ANY, ANY)}):
        caller = Caller(ACCOUNT, ROLE, suspects=frozenset(suspects), unknown=("nobody knows whose",))
        for asked in (Overrides(), Overrides(force={"AKIAOLD": "old"})):
            choice = choose(ACCOUNT, user, DecisionContext(Policy(), now, caller, asked))
            assert choice is not None
            assert {one.reason for one in choice.outcomes} == {"caller-unknown"}
            assert all(
                isinstance(one, HeldKey) and "nobody knows whose" in one.why for one in choice.outcomes
            )
    assert "caller-unknown" in HOLD_REASONS
    elsewhere = Caller(ACCOUNT, ROLE, suspects=frozenset({(OTHER, ANY), (ACCOUNT, "bob")}))
    choice = choose(ACCOUNT, user, DecisionContext(Policy(), now, elsewhere))
    assert choice is not None
    assert [one.key for one in choice.outcomes if not isinstance(one, HeldKey)] == ["AKIAOLD"]


def test_a_bare_name_of_an_older_ledger_is_of_the_callers_own_account() -> None:
    caller = Caller(ACCOUNT, ROLE, frozenset({"ann"}))
    assert caller.protects(ACCOUNT, "ann", []) == "caller"
    assert caller.protects(OTHER, "ann", []) == ""
