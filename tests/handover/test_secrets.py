"""A new key's secret is in no text, file or error that anybody could read."""

import copy
import json
import pickle
import resource
from pathlib import Path
from typing import cast

import msgspec
import pytest

from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.gateway import AccountGateway
from sparekey.handover import Handovers, HandoverTools
from sparekey.handover.command import CommandCopy
from sparekey.handover.interface import HandoverError, Publication
from sparekey.policy import FieldError, Handover, KeyFields, parse_policy
from sparekey.settings import load_policy

KEY = NewAccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SCRIPT = """#!/bin/sh
cat > {folder}/got
echo "$@" > {folder}/arguments
env > {folder}/environment
echo "$(cat {folder}/got)" >&2
exit {status}
"""


def test_a_new_key_is_shown_by_its_id_and_cannot_be_serialised() -> None:
    assert (repr(KEY), str(KEY), f"{[KEY]}") == (
        "NewAccessKey(AKIAIOSFODNN7EXAMPLE)",
        "NewAccessKey(AKIAIOSFODNN7EXAMPLE)",
        "[NewAccessKey(AKIAIOSFODNN7EXAMPLE)]",
    )
    for serialise in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, json.dumps):
        with pytest.raises(TypeError) as caught:
            serialise(KEY)
        assert KEY.secret not in str(caught.value)


def command(folder: Path, status: int) -> tuple[CommandCopy, Handover]:
    """A copy by a program that keeps all it was given, and quotes it when it fails."""
    program = folder / "put key"
    program.write_text(SCRIPT.format(folder=folder, status=status))
    program.chmod(0o700)
    place = f"'{program}' --to billing"
    handover = Handover(user="app", store="ssm:/app", copies=(f"command:{place}",), env=("PATH",))
    CommandCopy.check_place(place, handover)
    tools = HandoverTools(
        cast("AccountGateway", None),
        lambda _: cast("AccountGateway", None),
        {"PATH": "/usr/bin:/bin", "AWS_SECRET_ACCESS_KEY": "ours"},
    )
    return CommandCopy(place, handover, tools), handover


def test_a_program_gets_the_key_on_its_standard_input_alone(tmp_path: Path) -> None:
    copy_, _ = command(tmp_path, 0)
    assert copy_.check() == ()
    copy_.write(KEY)
    assert json.loads((tmp_path / "got").read_text()) == {
        "Version": 1,
        "AccessKeyId": KEY.id,
        "SecretAccessKey": KEY.secret,
    }
    assert (tmp_path / "arguments").read_text() == "--to billing\n"
    environment = (tmp_path / "environment").read_text()
    assert "ours" not in environment
    assert KEY.secret not in environment
    assert copy_.read_back() is None


class FakeStore:
    """A store that has the key already."""

    def __init__(self, *_: object) -> None:
        pass

    def publish(self, version: str, _key: str) -> Publication:
        return Publication(version, "")

    def read(self, _version: str) -> NewAccessKey:
        return KEY


def test_a_program_that_fails_and_quotes_the_secret_is_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, handover = command(tmp_path, 3)
    monkeypatch.setattr("sparekey.handover.stores", lambda: {"ssm": FakeStore})
    policy = msgspec.structs.replace(parse_policy(""), handover=(handover,))
    tools = HandoverTools(
        cast("AccountGateway", None), lambda _: cast("AccountGateway", None), {"PATH": "/usr/bin:/bin"}
    )
    with pytest.raises(HandoverError, match="ended with 3") as caught:
        Handovers(lambda _: tools).publish(policy, "111122223333", "app", "1", KEY.id)
    assert KEY.secret not in caught.value.message
    assert KEY.id in caught.value.message
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0  # and a crash leaves no file with it


@pytest.mark.parametrize("place", ["", "  ", "'unfinished"])
def test_what_is_no_program_is_refused_in_the_policy(place: str) -> None:
    with pytest.raises(FieldError):
        CommandCopy.check_place(place, Handover(user="app", store="ssm:/app"))


def test_a_program_that_does_not_exist_is_one_sentence() -> None:
    tools = HandoverTools(cast("AccountGateway", None), lambda _: cast("AccountGateway", None), {})
    with pytest.raises(HandoverError, match="there is no program /no/such"):
        CommandCopy("/no/such", Handover(user="app", store="ssm:/app"), tools).check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('store = "s3:bucket"', "field `store`: there is no such kind: 's3'"),
        ('store = "github:a/b"', "field `store`: there is no such kind: 'github'"),
        ('store = "ssm:"', "field `store`: .*ssm needs a place"),
        (
            'store = "ssm:/a"\ncopies = ["ssm:/b", "vault:x/y"]',
            "field `copies`: there is no such kind: 'vault'",
        ),
        ('store = "age:/a"', "field `store`: .*age needs `recipients`"),
        ('stroe = "ssm:/a"', "there is no such field"),
    ],
)
def test_a_handover_that_cannot_be_used_is_refused_where_the_policy_is_read(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "sparekey.toml"
    path.write_text(f'[[handover]]\nuser = "etl"\n{text}\n')
    path.chmod(0o600)
    with pytest.raises(FieldError, match=message) as caught:
        load_policy(path)
    assert "[[handover]] 1 ('etl')" in caught.value.message


def test_the_fields_names_are_a_persons_choice() -> None:
    assert KeyFields(id="user", secret="password").id == "user"  # a field's name
