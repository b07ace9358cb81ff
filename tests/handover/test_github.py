"""Secrets of GitHub Actions, against a local server that opens the sealed boxes."""

import base64
from collections.abc import Iterator
from typing import Any, cast

import pytest
from nacl.public import PrivateKey, SealedBox

from handover.local_server import Answer, serving
from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.gateway import AccountGateway
from sparekey.handover.github import GithubSecrets
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.policy import FieldError, Handover

KEY = NewAccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOKEN = "ghp_secretsecretsecret"
HANDOVER = Handover(user="app", store="secretsmanager:app")


class FakeGithub:
    """As much of GitHub as is asked: it holds only what it could open with its private key."""

    def __init__(self) -> None:
        self.private, self.number = PrivateKey.generate(), 1
        self.secrets: dict[str, str] = {}
        self.paths: list[str] = []
        self.failures: list[int] = []
        self.url = ""

    def exchange_key(self) -> None:
        """Another key pair, as GitHub has from time to time."""
        self.private, self.number = PrivateKey.generate(), self.number + 1

    def respond(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        self.paths.append(path)
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"message": "Bad credentials"}
        if "/nobody/" in path:
            return 404, {"message": "Not Found"}
        if method == "GET" and path.endswith("/public-key"):
            public = base64.b64encode(bytes(self.private.public_key)).decode()
            return 200, {"key_id": str(self.number), "key": public}
        failure = self.failures.pop(0) if self.failures else 204
        if failure not in (0, 204):
            return failure, {"message": "no"}
        if body["key_id"] != str(self.number):
            return 422, {"message": "stale"}
        box = SealedBox(self.private).decrypt(base64.b64decode(body["encrypted_value"]))
        self.secrets[path.rpartition("/")[2]] = box.decode()
        return failure, None


@pytest.fixture
def github() -> Iterator[FakeGithub]:
    fake = FakeGithub()
    with serving(fake.respond) as url:
        fake.url = url
        yield fake


def copy(github: FakeGithub, place: str = "acme/app", token: str = TOKEN) -> GithubSecrets:
    environ = {"GITHUB_TOKEN": token, "GITHUB_API_URL": github.url}
    tools = HandoverTools(cast("AccountGateway", None), lambda _: cast("AccountGateway", None), environ)
    GithubSecrets.check_place(place, HANDOVER)
    return GithubSecrets(place, HANDOVER, tools)


def test_only_github_can_open_what_is_written(github: FakeGithub) -> None:
    copy(github).write(KEY)
    assert github.secrets == {"AWS_ACCESS_KEY_ID": KEY.id, "AWS_SECRET_ACCESS_KEY": KEY.secret}
    assert copy(github).read_back() is None


def test_an_environments_name_is_part_of_the_path(github: FakeGithub) -> None:
    copy(github, "acme/app#prod west/1").write(KEY)
    assert github.paths[0] == "/repos/acme/app/environments/prod%20west%2F1/secrets/public-key"


def test_a_public_key_that_was_exchanged_in_between_is_read_again(github: FakeGithub) -> None:
    made, before = copy(github), github.respond

    def respond(method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        answer = before(method, path, body, headers)
        if method == "GET" and github.number == 1:
            github.exchange_key()
        return answer

    with serving(respond) as github.url:
        made = copy(github)
        made.write(KEY)
    assert github.secrets["AWS_SECRET_ACCESS_KEY"] == KEY.secret


def test_a_pair_that_was_written_by_half_is_named_and_completed_by_repeating(github: FakeGithub) -> None:
    github.failures = [204, 500]
    with pytest.raises(HandoverError, match="AWS_SECRET_ACCESS_KEY is the new one") as caught:
        copy(github).write(KEY)
    assert caught.value.temporary
    copy(github).write(KEY)
    assert github.secrets["AWS_ACCESS_KEY_ID"] == KEY.id


def test_a_line_that_is_cut_after_the_write_is_temporary(github: FakeGithub) -> None:
    github.failures = [0]
    with pytest.raises(HandoverError, match="no answer from GitHub") as caught:
        copy(github).write(KEY)
    assert caught.value.temporary
    copy(github).write(KEY)
    assert len(github.secrets) == 2


@pytest.mark.parametrize(
    ("place", "token", "message"),
    [("acme/app", "wrong", "HTTP 401"), ("nobody/app", TOKEN, "HTTP 404")],
)
def test_what_cannot_be_used_is_one_sentence_without_a_secret(
    github: FakeGithub, place: str, token: str, message: str
) -> None:
    with pytest.raises(HandoverError, match=message) as caught:
        copy(github, place, token).check()
    text = caught.value.message + caught.value.hint
    assert token not in text.split()
    assert TOKEN not in text
    assert KEY.secret not in text


def test_a_check_says_what_github_does_not_show(github: FakeGithub) -> None:
    (note,) = copy(github).check()
    assert "only by writing" in note
    assert github.secrets == {}


@pytest.mark.parametrize("place", ["", "acme", "acme/", "acme/app/x", "a b/c", "acme/app#"])
def test_what_is_no_repository_is_refused_in_the_policy(place: str) -> None:
    with pytest.raises(FieldError):
        GithubSecrets.check_place(place, HANDOVER)
