"""Vault's KV version 2, against a fake that keeps versions, deletions and check-and-set as its documentation says."""

import re
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from handover.local_server import Answer, serving
from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.gateway import AccountGateway
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.handover.vault import VaultKv
from sparekey.policy import FieldError, Handover

OLD = NewAccessKey("AKIAIOSFODNN7EXAMPL2", "oldoldoldoldoldoldoldoldoldoldoldold/old")
NEW = NewAccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
HANDOVER = Handover(user="app", store="vault:secret/prod/app")
TOKEN = "hvs.secretsecret"


class FakeVault:
    """One mount, "secret"; a version that is None was deleted. `cut` ends the line after so many writes."""

    def __init__(self) -> None:
        self.paths: dict[str, list[dict[str, Any] | None]] = {
            "prod/app": [{"AWS_ACCESS_KEY_ID": OLD.id, "AWS_SECRET_ACCESS_KEY": OLD.secret, "region": "eu"}]
        }
        self.capabilities = ["create", "update", "read", "delete"]
        self.cut, self.sealed, self.url = 0, False, ""

    def respond(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if headers.get("x-vault-token") != TOKEN:
            return 403, {"errors": ["permission denied"]}
        if path == "/v1/sys/capabilities-self":
            return 200, {"data": dict.fromkeys(body["paths"], self.capabilities)}
        parts = urlsplit(path)
        match = re.fullmatch(r"/v1/secret/(data|metadata)/(.+)", parts.path)
        if match is None:
            return 404, {"errors": []}
        kind, name = match.groups()
        versions = self.paths.get(name)
        if kind == "metadata":
            return self._metadata(method, name)
        if method == "POST":
            return self._write(name, body)
        number = int(parse_qs(parts.query).get("version", ["0"])[0]) or len(versions or ())
        if versions is None or number > len(versions) or versions[number - 1] is None:
            return 404, {"errors": []}
        return 200, {"data": {"data": versions[number - 1], "metadata": {"version": number}}}

    def _metadata(self, method: str, name: str) -> Answer:
        if method == "DELETE":
            self.paths.pop(name, None)
            return 204, None
        versions = self.paths.get(name)
        return (
            (404, {"errors": []}) if versions is None else (200, {"data": {"current_version": len(versions)}})
        )

    def _write(self, name: str, body: Any) -> Answer:
        versions = self.paths.setdefault(name, [])
        if body["options"]["cas"] != len(versions):
            return 400, {"errors": ["check-and-set parameter did not match the current version"]}
        versions.append(body["data"])
        if self.cut:
            self.cut -= 1
            return 0, None
        return 200, {"data": {"version": len(versions)}}


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    fake = FakeVault()
    with serving(fake.respond) as url:
        fake.url = url
        yield fake


def store(vault: FakeVault, token: str = TOKEN) -> VaultKv:
    tools = HandoverTools(
        cast("AccountGateway", None),
        lambda _: cast("AccountGateway", None),
        {"VAULT_ADDR": vault.url, "VAULT_TOKEN": token},
    )
    VaultKv.check_place("secret/prod/app", HANDOVER)
    return VaultKv("secret/prod/app", HANDOVER, tools)


def test_a_key_is_staged_published_and_taken_back(vault: FakeVault) -> None:
    made = store(vault)
    assert made.check() == ()
    version = made.stage(NEW)
    assert made.stage(NEW) == version
    assert len(vault.paths["prod/app"]) == 1
    assert (made.staged(NEW.id), made.staged(OLD.id)) == (version, "1")
    assert made.read(version).secret == NEW.secret
    published = made.publish(version, NEW.id)
    assert made.publish(version, NEW.id) == published == ("2", "1")
    assert vault.paths == {
        "prod/app": [
            {"AWS_ACCESS_KEY_ID": OLD.id, "AWS_SECRET_ACCESS_KEY": OLD.secret, "region": "eu"},
            {"AWS_ACCESS_KEY_ID": NEW.id, "AWS_SECRET_ACCESS_KEY": NEW.secret, "region": "eu"},
        ]
    }
    made.revert(published)
    made.revert(published)
    assert [version and version["AWS_ACCESS_KEY_ID"] for version in vault.paths["prod/app"]] == [
        OLD.id,
        NEW.id,
        OLD.id,
    ]


def test_a_line_that_is_cut_after_each_write_is_made_good_by_repeating(vault: FakeVault) -> None:
    made = store(vault)
    vault.cut = 1
    with pytest.raises(HandoverError, match="no answer from Vault") as caught:
        made.stage(NEW)
    assert caught.value.temporary
    version = made.stage(NEW)
    vault.cut = 1
    with pytest.raises(HandoverError, match="no answer from Vault"):
        made.publish(version, NEW.id)
    assert made.publish(version, NEW.id) == ("2", "1")
    assert list(vault.paths) == ["prod/app"]


def test_a_writer_in_between_is_not_overwritten(vault: FakeVault) -> None:
    made = store(vault)
    version = made.stage(NEW)
    vault.paths["prod/app"].append(
        {"AWS_ACCESS_KEY_ID": OLD.id, "AWS_SECRET_ACCESS_KEY": OLD.secret, "region": "us"}
    )
    with pytest.raises(HandoverError, match="other fields"):
        made.publish(version, NEW.id)
    real = vault.respond

    def races(method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        if method == "POST" and path.endswith("/prod/app"):
            vault.paths["prod/app"].append(vault.paths["prod/app"][-1])
        return real(method, path, body, headers)

    vault.paths["prod/app"].pop()
    with serving(races) as vault.url, pytest.raises(HandoverError, match="somebody else meanwhile") as caught:
        store(vault).publish(version, NEW.id)
    assert caught.value.temporary
    assert vault.paths["prod/app"][-1] == vault.paths["prod/app"][0]


def test_a_version_that_somebody_wrote_since_is_not_reverted(vault: FakeVault) -> None:
    made = store(vault)
    published = made.publish(made.stage(NEW), NEW.id)
    vault.paths["prod/app"].append({"AWS_ACCESS_KEY_ID": "AKIATHEIRS", "AWS_SECRET_ACCESS_KEY": "x"})
    made.revert(published)
    assert len(vault.paths["prod/app"]) == 3


def test_another_rotation_stands_in_the_way(vault: FakeVault) -> None:
    store(vault).stage(NEW)
    with pytest.raises(HandoverError, match="another rotation is at work"):
        store(vault).check()
    store(vault).discard("pending")
    assert store(vault).check() == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sealed": True}, "HTTP 503"),
        ({"capabilities": ["read"]}, "may not update"),
        ({"paths": {}}, "there is no vault:secret/prod/app"),
        ({"paths": {"prod/app": [None]}}, "there is no vault:secret/prod/app"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(vault: FakeVault, change: dict[str, Any], message: str) -> None:
    for name, value in change.items():
        setattr(vault, name, value)
    with pytest.raises(HandoverError, match=message):
        store(vault).check()
    with pytest.raises(HandoverError, match=r"HTTP 403|HTTP 503") as caught:
        store(vault, "hvs.wrong").check()
    assert "hvs." not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("place", ["", "secret", "secret/", "a b/c", "secret/x/"])
def test_what_is_no_path_is_refused_in_the_policy(place: str) -> None:
    with pytest.raises(FieldError):
        VaultKv.check_place(place, HANDOVER)


def test_an_address_in_the_clear_is_refused() -> None:
    tools = HandoverTools(
        cast("AccountGateway", None),
        lambda _: cast("AccountGateway", None),
        {"VAULT_ADDR": "http://vault.example.com:8200", "VAULT_TOKEN": TOKEN},
    )
    with pytest.raises(HandoverError, match="does not begin with https"):
        VaultKv("secret/prod/app", HANDOVER, tools)
