"""No key that signs for us is ever planned for deactivation or passes the guards, whatever botocore's chain is."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparekey import app, guards
from sparekey.app import Overrides
from sparekey.errors import RefusedError
from sparekey.model import Caller, Evidence
from sparekey.plan import Plan, Preconditions, Step
from sparekey.sandbox import Sandbox
from support.cli_harness import AwsFrontend, environment, open_frontend
from support.scripted_aws import session

HERE, THERE = "111122223333", "444455556666"
USERS = "".join(
    f'[[account.user]]\nname = "{name}"\nkey = [{{ age = "60d" }}, {{ age = "20d", used = {{ ago = "2h" }} }}]\n'
    for name in ("ann", "bob")
)
ROLES = f"""
[[account.role]]
name = "Admin"
[[account.role]]
name = "Hub"
trust = ["arn:aws:iam::{HERE}:root", "arn:aws:iam::{THERE}:root"]
[[account.role]]
name = "Ann"
trust = ["arn:aws:iam::{HERE}:user/ann", "arn:aws:iam::{THERE}:user/ann"]
[[account.role]]
name = "Ci"
trust = ["arn:aws:iam::{HERE}:oidc-provider/ci.example.com"]
"""
SCENARIO = f"""
caller = {{ account = "{HERE}", user = "ann" }}
[[account]]
id = "{HERE}"
{USERS}{ROLES}
[[account]]
id = "{THERE}"
{USERS}{ROLES}
[[fault]]
kind = "late-last-used"
seconds = 864000
"""


class _Container(BaseHTTPRequestHandler):
    """The endpoint that a program on this machine plays: it hands out whatever session it has."""

    answer = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Container)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def door() -> Iterator[AwsFrontend]:
    with open_frontend() as made:
        yield made


class Source:
    """Credentials at the bottom of a chain, and the user and key that have signed for them."""

    def __init__(self, aws: Sandbox, account: str, user: str, number: int, form: str, role: str) -> None:
        key = aws.key(user, account=account, number=number)
        self.signer = (account, user, key.id)
        self.fields = {"AccessKeyId": key.id, "SecretAccessKey": key.secret, "SessionToken": ""}
        if form != "key":
            self.fields = _taken(aws, key, form, f"arn:aws:iam::{account}:role/{role}")

    @property
    def ini(self) -> str:
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        return "".join(
            f"{name} = {value}\n" for name, value in zip(names, self.fields.values(), strict=True) if value
        )

    @property
    def env(self) -> dict[str, str]:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return {name: value for name, value in zip(names, self.fields.values(), strict=True) if value}


def _taken(aws: Sandbox, key: Any, form: str, role: str) -> dict[str, str]:
    """A session that somebody took with a key before sparekey began."""
    made = session()
    made.set_credentials(key.id, key.secret)
    made.set_config_variable("region", "us-east-1")
    client = made.create_client("sts")
    from sparekey.sandbox.inprocess import SendToApp

    client.meta.events.register("before-send", SendToApp(aws.app))
    received = (
        client.get_session_token(SerialNumber="arn:aws:iam::1:mfa/x", TokenCode="123456")
        if form == "session"
        else client.assume_role(RoleArn=role, RoleSessionName="somebody")
    )
    return {
        name: received["Credentials"][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
    }


@st.composite
def setups(draw: st.DrawFn) -> dict[str, Any]:
    """One chain: a provider at the bottom with a key or a session of it, and roles on top."""
    provider = draw(
        st.sampled_from(
            ("env", "credentials-file", "config", "process", "container", "boto-file", "ec2-file")
        )
    )
    forms = ["key"] if provider in ("boto-file", "ec2-file") else ["key", "session", "role"]
    if provider == "container":
        forms = ["session", "role"]
    return {
        "provider": provider,
        "form": draw(st.sampled_from(forms)),
        "account": draw(st.sampled_from((HERE, THERE))),
        "user": draw(st.sampled_from(("ann", "bob"))),
        "number": draw(st.sampled_from((1, 2))),
        "role": draw(st.sampled_from(("Admin", "Hub"))),
        "on_top": draw(st.lists(st.sampled_from(("Admin", "Hub")), max_size=2)),
    }


def write(
    name: str, wanted: dict[str, Any], aws: Sandbox, folder: Path, url: str
) -> tuple[Source, str, str, dict[str, str]]:
    """The configuration, credentials file and variables of a chain whose top is the profile `name`."""
    source = Source(aws, wanted["account"], wanted["user"], wanted["number"], wanted["form"], wanted["role"])
    provider, config, credentials, env = wanted["provider"], "", "", dict[str, str]()
    bottom = f"{name}-0" if wanted["on_top"] else name
    named = {"env": "Environment", "container": "EcsContainer"}.get(provider, "")
    match provider:
        case "env":
            env = source.env
        case "credentials-file":
            credentials = f"[{bottom}]\n{source.ini}"
        case "config":
            config = f"[profile {bottom}]\n{source.ini}"
        case "process":
            received = {"Version": 1, **{k: v for k, v in source.fields.items() if v}}
            (folder / f"{name}.json").write_text(json.dumps(received))
            config = f"[profile {bottom}]\ncredential_process = /bin/cat {folder}/{name}.json\n"
        case "container":
            fields = {k: source.fields[k] for k in ("AccessKeyId", "SecretAccessKey")}
            received = {
                **fields,
                "Token": source.fields["SessionToken"],
                "Expiration": "2099-01-01T00:00:00Z",
            }
            _Container.answer = json.dumps(received).encode()
            env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
        case "boto-file":
            (folder / "boto").write_text(f"[Credentials]\n{source.ini}")
            env = {"BOTO_CONFIG": str(folder / "boto")}
        case _:
            text = f"AWSAccessKeyId={source.fields['AccessKeyId']}\nAWSSecretKey={source.fields['SecretAccessKey']}\n"
            (folder / "ec2").write_text(text)
            env = {"AWS_CREDENTIAL_FILE": str(folder / "ec2")}
    for at, role in enumerate(wanted["on_top"], 1):
        top = at == len(wanted["on_top"])
        from_ = f"credential_source = {named}" if named and at == 1 else f"source_profile = {name}-{at - 1}"
        arn = f"arn:aws:iam::{wanted['account']}:role/{role}"
        config += f"[profile {name if top else f'{name}-{at}'}]\nrole_arn = {arn}\n{from_}\n"
    return source, config, credentials, env


def is_profile(wanted: dict[str, Any]) -> bool:
    """True where the chain can be named by a profile."""
    return bool(wanted["on_top"]) or wanted["provider"] in ("credentials-file", "config", "process")


def is_possible(wanted: dict[str, Any]) -> bool:
    """False for what botocore has no way to lean on."""
    return not (wanted["on_top"] and wanted["provider"] in ("boto-file", "ec2-file"))


@contextmanager
def surroundings(
    door: AwsFrontend, aws: Sandbox, folder: Path, config: str, credentials: str, env: dict[str, str]
) -> Iterator[None]:
    (folder / "config").write_text(config)
    (folder / "credentials").write_text(credentials)
    base = {
        "AWS_ENDPOINT_URL": door.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "SPAREKEY_HOME": str(folder / "home"),
        "BOTO_CONFIG": "/nonexistent",
        **env,
    }
    with environment(base, aws.clock) as patch:
        patch.setattr("sparekey.sandbox.auth._SKEW", __import__("datetime").timedelta(days=3))
        patch.setattr(door, "behind", aws.app)
        yield


def going(plan: Plan) -> set[str]:
    return {step.key for step in plan.deactivations}


def forged(plan: Plan, caller: Caller, signer: tuple[str, str, str], keys: Sequence[str]) -> Plan:
    """A plan that deactivates a key that signs, whoever wrote it."""
    import msgspec

    account, user, key = signer
    keep = next(one for one in keys if one != key)
    statuses = dict.fromkeys(keys, "Active")
    before = Preconditions("arn", statuses, dict.fromkeys(keys))
    step = Step(account, user, keep, key, "deactivate", "idle", "", "", (Evidence("a", "b"),), before)
    return msgspec.structs.replace(plan, steps=(step,))


def assert_protected(
    here: app.Connection, aws: Sandbox, signers: Sequence[tuple[str, str, str]], forced: bool
) -> None:
    keys = {signer[2] for signer in signers}
    asked = Overrides(force=dict.fromkeys(keys, "old") if forced else {})
    plan = app.plan(here, overrides=asked)
    assert not going(plan) & keys
    read = {account.id for account in plan.accounts}
    caller = here.caller()
    for signer in signers:
        account, user, _ = signer
        own = [one.id for one in aws.state.accounts[account].users[user].keys]
        held = [step for step in plan.held if (step.account, step.user) == (account, user)]
        if account in read and (account, user) not in {(p.account, p.user) for p in plan.exempt}:
            assert {step.reason for step in held} <= {"caller", "caller-unknown"}
            assert held
        forgery = forged(plan, caller, signer, own)
        with pytest.raises(RefusedError, match="behind the credentials"):
            guards.refusals(forgery, here.caller_now(), guards.Limits())


@pytest.mark.slow
@settings(max_examples=14, deadline=None, suppress_health_check=list(HealthCheck))
@given(wanted=setups().filter(is_possible), forced=st.booleans())
def test_no_key_behind_the_base_credentials_goes(
    door: AwsFrontend, container: str, wanted: dict[str, Any], forced: bool
) -> None:
    aws = Sandbox(SCENARIO)
    with TemporaryDirectory() as name:
        folder = Path(name)
        source, config, credentials, env = write("base", wanted, aws, folder, container)
        with surroundings(door, aws, folder, config, credentials, env):
            here = app.connect(profile="base" if is_profile(wanted) else None)
            assert_protected(here, aws, [source.signer], forced)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(wanted=setups().filter(is_possible).filter(is_profile), selected=st.booleans(), forced=st.booleans())
def test_no_key_behind_a_profile_of_an_accounts_file_goes(
    door: AwsFrontend, container: str, wanted: dict[str, Any], selected: bool, forced: bool
) -> None:
    """Of an account that is not selected, a key that stands in the profile."""
    aws = Sandbox(SCENARIO)
    wanted = {**wanted, "account": THERE, "number": 1}
    base = aws.key("ann", account=HERE, number=2)
    with TemporaryDirectory() as name:
        folder = Path(name)
        source, config, credentials, env = write("there", wanted, aws, folder, container)
        config += f"[profile me]\naws_access_key_id = {base.id}\naws_secret_access_key = {base.secret}\n"
        (folder / "accounts.toml").write_text(
            f'[[account]]\nid = "{HERE}"\n[[account]]\nid = "{THERE}"\nprofile = "there"\n'
        )
        where = app.account_choice(
            accounts_file=folder / "accounts.toml", include=() if selected else (HERE,)
        )
        with surroundings(door, aws, folder, config, credentials, env):
            here = app.connect(profile="me", where=where)
            signers = [(HERE, "ann", base.id)]
            static = wanted["form"] == "key" and wanted["provider"] in ("credentials-file", "config")
            if selected or static:
                signers.append(source.signer)
            if selected:
                assert_protected(here, aws, signers, forced)
            else:
                assert not static or source.signer[2] in here.caller().keys
