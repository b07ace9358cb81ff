"""Every way in which botocore's credential chain fails: one sentence, a hint, nothing sent and no secret shown."""

import hashlib
import io
import json
import re
import string
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore.loaders
import pytest
from botocore import exceptions as boto

from sparekey.aws.credential_errors import CredentialSetup, explain
from sparekey.aws.errors import (
    AwsError,
    ExpiredCredentialsError,
    NoCredentialsError,
    SettingError,
    error_from_botocore,
)
from sparekey.aws.gateway import AwsGateway
from support.clocks import VirtualClock
from support.scripted_aws import START, ScriptedAws

SECRET = "hunter2"
ROLE = "role_arn = arn:aws:iam::111122223333:role/R\n"
KEY = f"aws_access_key_id = AKIABASE\naws_secret_access_key = {SECRET}\n"
ENV_KEY = {"AWS_ACCESS_KEY_ID": "AKIABASE", "AWS_SECRET_ACCESS_KEY": SECRET}
SSO = "sso_account_id = 1\nsso_role_name = R\n"
_LOADER = botocore.loaders.create_loader()


class Home:
    """An AWS home of its own: configuration, helpers, tokens, and a container's endpoint on loopback."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, url: str) -> None:
        self.folder, self.patch, self.url = folder, patch, url

    def helper(self, printed: object, code: int = 0) -> str:
        """A credential helper that prints this, and a secret to stderr."""
        text = printed if isinstance(printed, str) else json.dumps(printed)
        number = len(list(self.folder.iterdir()))
        (self.folder / f"printed-{number}").write_text(text)
        path = self.folder / f"helper-{number}"
        path.write_text(f"#!/bin/sh\necho {SECRET} >&2\ncat {self.folder}/printed-{number}\nexit {code}\n")
        path.chmod(0o755)
        return str(path)

    def token(self, session: str, text: str) -> None:
        """What `aws login` keeps of a sign-in."""
        name = hashlib.sha256(session.encode()).hexdigest()
        (self.folder / f"{name}.json").write_text(text)

    def error(self, config: str = "", **env: str) -> AwsError:
        """What a person is told; nothing was sent, and no secret is in it or in a traceback."""
        (self.folder / "config").write_text(config)
        for name, value in env.items():
            self.patch.setenv(name, value)
        aws = ScriptedAws()
        with pytest.raises(AwsError) as caught:
            AwsGateway.connect(
                profile="x" if config else None, clock=VirtualClock(START), send=aws.send
            ).caller()
        assert aws.requests == []
        error = caught.value
        assert error.hint
        assert "\n" not in error.message
        assert SECRET not in error.message + error.hint + "".join(traceback.format_exception(error))
        return error


class _Container(BaseHTTPRequestHandler):
    """Answers that are none."""

    def do_GET(self) -> None:
        status, body = {
            "/500": (500, SECRET),
            "/text": (200, SECRET),
            "/half": (200, '{"AccessKeyId": "ASIAX"}'),
            "/list": (200, "[]"),
        }[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Container)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str) -> Home:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_LOGIN_CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("BOTO_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setattr("botocore.loaders.create_loader", lambda _path=None: _LOADER)
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    return Home(tmp_path, monkeypatch, container)


GOOD = {"Version": 1, "AccessKeyId": "AKIAHELPER", "SecretAccessKey": SECRET}


@pytest.mark.parametrize(
    ("printed", "code", "received"),
    [
        ("", 3, "ended with an error"),
        (SECRET, 0, "does not print JSON"),
        ([SECRET], 0, "does not print JSON"),
        ({"Version": SECRET}, 0, "printed no `Version` 1"),
        ({"Version": 1, "AccessKeyId": SECRET}, 0, "printed no SecretAccessKey"),
        ({**GOOD, "Expiration": SECRET}, 0, "an Expiration that is no time"),
        ({**GOOD, "SessionToken": "t", "Expiration": "2020-01-01T00:00:00Z"}, 0, "have ended"),
        ({**GOOD, "SecretAccessKey": 5}, 0, "holds something that is not text"),
        ({**GOOD, "AccessKeyId": "AKIAHELPER\r"}, 0, "the access key id .* holds a line break"),
        ({**GOOD, "SecretAccessKey": f"{SECRET}\n"}, 0, "the secret access key .* holds a line break"),
        ({**GOOD, "SessionToken": "tök"}, 0, "the session token .* not ASCII"),
    ],
)
@pytest.mark.parametrize("below", [False, True], ids=["profile", "source-profile"])
def test_a_helper_is_named_and_what_it_prints_is_never_shown(
    home: Home, printed: object, code: int, received: str, below: bool
) -> None:
    helper = home.helper(printed, code)
    process = f"credential_process = {helper} {SECRET}\n"
    config = (
        f"[profile x]\n{ROLE}source_profile = p\n[profile p]\n{process}"
        if below
        else f"[profile x]\n{process}"
    )
    error = home.error(config)
    assert isinstance(error, NoCredentialsError)
    assert helper in error.message
    assert ("'p'" if below else "'x'") in error.message
    assert_told(error, received)


def assert_told(error: AwsError, received: str) -> None:
    assert re.search(received, error.message), error.message


@pytest.mark.parametrize(
    ("config", "received"),
    [
        ("credential_process = /none/helper get", "the helper /none/helper of the profile 'x'.*No such file"),
        ("credential_process = /", "the helper / of the profile 'x'.*Permission denied"),
        ("credential_process =", "'x' .*is not written as a command"),
        ('credential_process = "a b', "'x' .*is not written as a command"),
        (
            f"{ROLE}web_identity_token_file = /none/t",
            "the web identity token file /none/t of the profile 'x'",
        ),
        (f"{ROLE}web_identity_token_file = /", "the web identity token file / of the profile 'x'.*directory"),
        ("web_identity_token_file = /none/t", "'x'.*no role ARN"),
        (ROLE, "source_profile or credential_source is missing in the profile 'x'"),
        (f"{ROLE}source_profile = x\ncredential_source = Environment", "'x'.*both source_profile and"),
        (f"{ROLE}source_profile = y\n[profile y]\n{ROLE}source_profile = x", "Infinite loop.*'x', 'y'"),
        (f"{ROLE}source_profile = y", 'source_profile "y" referenced in the profile "x" does not exist'),
        (f"{ROLE}source_profile = y\n[profile y]\nregion = eu-west-1", 'profile "y" must have credentials'),
        (f"{ROLE}credential_source = Nope", 'credential source "Nope" referenced in profile "x"'),
        (f"{ROLE}credential_source = Environment", "'x': Environment gave none"),
        (f"{ROLE}credential_source = Ec2InstanceMetadata", "'x': Ec2InstanceMetadata gave none"),
        (f"{ROLE}credential_source = EcsContainer", "'x': EcsContainer gave none"),
        (f"role_arn = R\nsource_profile = x\n{KEY}", "'x'.*Invalid length for parameter RoleArn"),
        ("aws_access_key_id = AKIABASE", "aws_secret_access_key is missing in the profile 'x'"),
        (f"{ROLE}source_profile = b\n[profile b]\naws_access_key_id = AKIABASE", "that it leans on .'b'."),
        (f"{KEY}max_attempts = 5 # be patient", "max_attempts of the profile 'x' is no number"),
        (f"{KEY}metadata_service_timeout = soon", "metadata_service_timeout of the profile 'x' is no number"),
        (SSO, "'x'.*sso_start_url, sso_region"),
        (f"{SSO}sso_session = s", "'x'.*sso-session does not exist"),
        (f"{KEY}services = nope\nendpoint_url = http://127.0.0.1:9", "nope"),
        ("region = eu-west-1", "no AWS credentials were found for the profile 'x'"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(home: Home, config: str, received: str) -> None:
    error = home.error(f"[profile x]\n{config}\n")
    assert isinstance(error, NoCredentialsError)
    assert_told(error, received)


@pytest.mark.parametrize("setting", ["sts_regional_endpoints", "defaults_mode", "retry_mode", "region"])
def test_a_setting_that_botocore_does_not_take_is_told_with_its_profile(home: Home, setting: str) -> None:
    home.patch.delenv("AWS_REGION")
    error = home.error(f"[profile x]\n{KEY}{setting} = no such\n")
    assert isinstance(error, SettingError)
    assert "(profile 'x')" in error.message
    assert "no such" in error.message


@pytest.mark.parametrize("text", ["[profile x\n", "[profile x]\ns3 =\n  what\n", "\ufeff\u20ac"])
def test_a_configuration_file_that_cannot_be_parsed_is_named(home: Home, text: str) -> None:
    error = home.error(text)
    assert str(home.folder / "config") in error.message or "(x)" in error.message


@pytest.mark.parametrize(
    ("env", "received"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIABASE"}, "AWS_SECRET_ACCESS_KEY is not set"),
        ({**ENV_KEY, "AWS_CREDENTIAL_EXPIRATION": "soon"}, "AWS_CREDENTIAL_EXPIRATION is no time"),
        ({**ENV_KEY, "AWS_CREDENTIAL_EXPIRATION": "2036-01-01T00:00:00"}, "_EXPIRATION is no time with a zone"),
        ({**ENV_KEY, "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"}, "AWS_CREDENTIAL_EXPIRATION has passed"),
        ({**ENV_KEY, "AWS_MAX_ATTEMPTS": "3 # c"}, "AWS_MAX_ATTEMPTS is no number"),
        ({"AWS_METADATA_SERVICE_TIMEOUT": "soon"}, "AWS_METADATA_SERVICE_TIMEOUT is no number"),
        ({"AWS_METADATA_SERVICE_NUM_ATTEMPTS": "many"}, "AWS_METADATA_SERVICE_NUM_ATTEMPTS is no number"),
        ({**ENV_KEY, "AWS_ACCESS_KEY_ID": "AKIA\r"}, "the access key id in AWS_ACCESS_KEY_ID holds a line break"),
        ({**ENV_KEY, "AWS_ACCESS_KEY_ID": "AKIÄ"}, "in AWS_ACCESS_KEY_ID holds a character that is not ASCII"),
        ({**ENV_KEY, "AWS_SECRET_ACCESS_KEY": f"{SECRET}\n"}, "in AWS_SECRET_ACCESS_KEY holds a line break"),
        ({**ENV_KEY, "AWS_SESSION_TOKEN": "a\tb"}, "in AWS_SESSION_TOKEN holds a control character"),
        ({**ENV_KEY, "AWS_SESSION_TOKEN": "a b"}, "in AWS_SESSION_TOKEN holds white space"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/none/t", "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/R"},
         r"/none/t \(AWS_WEB_IDENTITY_TOKEN_FILE\) cannot be read"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/none/t"}, "AWS_ROLE_ARN"),
        ({"AWS_CREDENTIAL_FILE": "~/none/file"}, r"none/file \(AWS_CREDENTIAL_FILE\) cannot be read"),
        ({"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipv9"}, "mode: ipv9"),
        ({"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "no url"}, "no url"),
        ({}, "no AWS credentials were found"),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_used_is_named(home: Home, env: dict[str, str], received: str) -> None:
    assert_told(home.error(**env), received)


@pytest.mark.parametrize(
    ("path", "env", "received"),
    [
        ("/500", {}, "it answered 500"),
        ("/text", {}, "no answer that can be used"),
        ("/half", {}, "no credentials"),
        ("/list", {}, "no credentials"),
        ("/half", {"AWS_CONTAINER_AUTHORIZATION_TOKEN": f"{SECRET}\nx"}, "the token for it"),
        ("/half", {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/none/t"}, "/none/t .AWS_CONTAINER_AUTHORIZATION_TOK"),
    ],
)  # fmt: skip
def test_a_containers_endpoint_that_gives_nothing_is_named(
    home: Home, path: str, env: dict[str, str], received: str
) -> None:
    error = home.error(**env, AWS_CONTAINER_CREDENTIALS_FULL_URI=home.url + path)
    assert_told(error, received)
    assert "AWS_CONTAINER_" in error.message


def test_a_sign_in_that_is_over_names_its_profile_and_how_to_sign_in(home: Home) -> None:
    session = f"[profile x]\n{SSO}sso_session = s\n[sso-session s]\nsso_start_url = https://a\nsso_region = eu-west-1\n"
    error = home.error(session)
    assert isinstance(error, ExpiredCredentialsError)
    assert "`aws sso login --profile x`" in error.hint
    below = session.replace("profile x", "profile hub") + f"[profile x]\n{ROLE}source_profile = hub\n"
    assert "`aws sso login --profile hub`" in home.error(below).hint


_ENDED = {
    "accessKeyId": "ASIAX",
    "secretAccessKey": SECRET,
    "sessionToken": "t",
    "accountId": "1",
    "expiresAt": "2020-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    "kept",
    [
        None,
        SECRET,
        '{"accessToken": {}, "refreshToken": "r", "dpopKey": "d", "clientId": "c"}',
        json.dumps({"accessToken": _ENDED, "refreshToken": "r", "dpopKey": "!", "clientId": "c"}),
    ],
    ids=["none", "text", "half", "no-key"],
)
def test_a_login_that_is_over_names_its_profile_and_how_to_sign_in(home: Home, kept: str | None) -> None:
    pytest.importorskip("awscrt", reason="the extra crt is not installed")
    if kept:
        home.token("arn:aws:iam::111122223333:user/ops", kept)
    error = home.error("[profile x]\nlogin_session = arn:aws:iam::111122223333:user/ops\n")
    assert isinstance(error, ExpiredCredentialsError)
    assert "the sign-in has ended (the profile 'x')" in error.message
    assert "`aws login --profile x`" in error.hint


def test_a_login_without_its_package_names_the_extra(home: Home) -> None:
    home.patch.setattr("botocore.credentials.EC", None)
    error = home.error("[profile x]\nlogin_session = arn:aws:iam::111122223333:user/ops\n")
    assert "'x' was made by `aws login`" in error.message
    assert "sparekey[crt]" in error.hint


@pytest.mark.parametrize("stdin", [None, io.StringIO()], ids=["closed", "pipe"])
def test_an_mfa_code_is_not_asked_for_where_nobody_can_answer(home: Home, stdin: io.StringIO | None) -> None:
    def no_terminal(*_: object) -> int:
        raise OSError

    home.patch.setattr("sparekey.aws.credential_chain.os.open", no_terminal)
    home.patch.setattr("sys.stdin", stdin)
    mfa = "mfa_serial = arn:aws:iam::111122223333:mfa/ops\n"
    config = f"[profile x]\n{ROLE}source_profile = b\n{mfa}[profile b]\n{KEY}"
    error = home.error(config)
    assert "asks for an MFA code (arn:aws:iam::111122223333:mfa/ops of the profile 'x')" in error.message
    assert "terminal" in error.hint


def test_an_mfa_code_is_asked_for_at_a_terminal(home: Home) -> None:
    asked: list[str] = []
    home.patch.setattr("sparekey.aws.credential_chain.os.open", lambda *_: 99)
    home.patch.setattr("sparekey.aws.credential_chain.os.close", lambda _: None)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "12"

    home.patch.setattr("sparekey.aws.credential_chain.getpass", answer)
    config = f"[profile x]\n{ROLE}source_profile = x\nmfa_serial = arn:aws:iam::111122223333:mfa/ops\n{KEY}"
    assert "TokenCode" in home.error(config).message
    assert asked == ["Enter MFA code for arn:aws:iam::111122223333:mfa/ops: "]


def test_a_password_in_an_endpoint_is_not_shown(home: Home) -> None:
    endpoint = f"http://quentin:{SECRET}@127.0.0.1:9"
    error = home.error(
        f"[profile x]\n{ROLE}source_profile = x\n{KEY}", AWS_ENDPOINT_URL=endpoint, AWS_MAX_ATTEMPTS="1"
    )
    assert "http://127.0.0.1:9" in error.message
    assert "quentin" not in error.message


def _made(kind: type[boto.BotoCoreError]) -> Exception:
    """An error of botocore's, whatever fields its sentence has."""
    names = {name: f"some {name}" for name in _fields(kind.fmt)}
    if kind is boto.WaiterError:
        names["last_response"] = "some"
    made: Exception = kind(**names)
    return made


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_error_of_botocore_becomes_one_sentence_with_a_hint() -> None:
    setup = CredentialSetup("x", (), {})
    kinds = [
        kind
        for kind in vars(boto).values()
        if isinstance(kind, type) and issubclass(kind, boto.BotoCoreError)
    ]
    assert len(kinds) > 80
    for kind in kinds:
        error = _made(kind)
        received = explain(error, setup)
        assert received.hint, kind
        assert "'x'" in received.message or "some" in received.message or "region" in received.message, (
            kind,
            received.message,
        )
        assert error_from_botocore(error).message


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        TypeError("x"),
        RuntimeError("x"),
        ValueError("x"),
        RuntimeError("the refreshed credentials are still expired."),
        PermissionError(13, "Permission denied"),
        boto.RefreshWithMFAUnsupportedError(),
        boto.LoginInsufficientPermissions(),
    ],
)
def test_whatever_else_a_provider_raises_is_one_sentence_too(error: Exception) -> None:
    received = explain(error, CredentialSetup("x", (), {}))
    assert received.hint
    assert "'x'" in received.message
