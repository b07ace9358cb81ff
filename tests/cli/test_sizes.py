"""Accounts of every size: nobody at all, keys of every number, more users than one page holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_harness import ACCOUNT, AwsFrontend, CliHarness, cli_harness

_CALLER = f'caller = {{ account = "{ACCOUNT}", user = "ops" }}\n[[account]]\nid = "{ACCOUNT}"\n'
_OPS = '[[account.user]]\nname = "ops"\nkey = [{ age = "20d" }]\n'
_PAIR = 'key = [{ age = "200d", used = { ago = "80d" } }, { age = "50d", used = { ago = "1h" } }]\n'
CROWD = _CALLER + 'many = [{ prefix = "u", count = 999, key = [{ age = "30d" }] }]\n' + _OPS
CROWD += f'[[account.user]]\nname = "zz-last"\n{_PAIR}'
NAMES = ("app", "app-2", "application")
ALIKE = _CALLER + _OPS + "".join(f'[[account.user]]\nname = "{name}"\n{_PAIR}' for name in NAMES)


@pytest.fixture
def place(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: "pytest.CaptureFixture[str]", door: AwsFrontend
) -> Iterator[CliHarness]:
    with cli_harness(tmp_path, capsys, door, request.param) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("place", [CROWD], indirect=True, ids=["crowd"])
@pytest.mark.parametrize("mode", ["list", "report"])
def test_a_thousand_and_one_users_stand_on_two_pages(place: CliHarness, mode: str) -> None:
    result = place("audit", "--read", mode)
    assert result.code == 3
    assert (
        "1 of 1,001 users has spare keys.\nRead: 1 account, 1,001 users, 1,002 access keys. Not read: nothing."
        in result.out
    )
    assert "FAIL    zz-last" in result.out
    pages = [call for call in place.aws.state.calls if call.action == "iam:ListUsers"]
    assert len(pages) == 2 if mode == "list" else not pages
    place.make_plan("--user", "zz-last", "--read", mode, expect=0)


@pytest.mark.parametrize("place", [_CALLER + _OPS], indirect=True, ids=["nobody"])
def test_nobody_but_the_caller(place: CliHarness) -> None:
    result = place("audit")
    assert (result.code, result.err) == (0, "Read as arn:aws:iam::111122223333:user/ops.\n")
    assert "0 of 1 user have spare keys." in result.out
    result = place("plan", "-o", place.plan)
    assert result.code == 0
    assert "0 keys to deactivate" in result.out
    result = place("apply", place.plan)
    assert result.code == 0
    assert place.writes == 0


@pytest.mark.slow
def test_no_users_at_all(sk: CliHarness) -> None:
    with sk.aws.state.lock:
        sk.aws.state.accounts[ACCOUNT].users.clear()
        sk.aws.state.accounts[ACCOUNT].root_keys.append(sk.aws.operator)
        sk.aws.operator.user = ""
    result = sk("audit")
    assert result.code == 0
    assert "0 of 0 users have spare keys.\nRead: 1 account, 0 users" in result.out
    assert sk("audit", "--rule", "root-key").code == 3
    assert sk("plan").code == 0


@pytest.mark.parametrize("place", [ALIKE], indirect=True, ids=["alike"])
def test_a_user_whose_name_begins_as_anothers_does(place: CliHarness) -> None:
    place.make_plan("--user", "app", expect=0)
    assert place("apply", place.plan, "--yes").code == 0
    assert place.inactive == {"app/1"}


@pytest.mark.slow
def test_three_active_keys_of_one_user(sk: CliHarness) -> None:
    assert "FAIL    batch" in sk("audit").out
    sk.make_plan("--user", "batch", expect=0)
    assert sk("apply", sk.plan, "--yes").code == 0
    assert sk.inactive == {"batch/1", "batch/2"}
    result = sk("plan", "--user", "batch")
    assert result.code == 0
    assert "0 keys to deactivate, 0 held" in result.out
