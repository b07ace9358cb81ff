"""What cannot be meant is said in one sentence, with exit code 2, before AWS is asked for anything."""

import pytest

from support.cli_harness import CliHarness

KEY = "AKIANOTHINGLIKETHAT0"


@pytest.mark.parametrize(
    ("args", "received"),
    [
        (["audit", "--rule", "no-such-rule"], "there is no rule 'no-such-rule'"),
        (["audit", "--cis", "9.9"], "CIS version '9.9' is not known"),
        (["plan", "--force", KEY], "--force needs --because TEXT"),
        (["plan", "--force", KEY, "--because", "  "], "--force needs --because TEXT"),
        (["plan", "--because", "I say so"], "--because gives the reason for --force"),
        (["audit", "--external-id", "x"], "--external-id and --session-duration belong to a role"),
        (["audit", "--session-duration", "1h"], "belong to a role"),
        (["audit", "--include", "prod*"], "no accounts to choose from were given"),
        (["audit", "--org", "--accounts", "a.toml"], "--org and --accounts both choose accounts"),
        (["audit", "--org", "--role", "R", "--session-duration", "soon"], "is not a duration"),
        (["ledger", "verify", "--head", "x"], "--head is the head of one run"),
        (["sandbox", "--scenario", "nowhere.toml"], "the scenario nowhere.toml cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant(sk: CliHarness, args: list[str], received: str) -> None:
    result = sk(*args)
    assert (result.code, result.out) == (2, "")
    assert received in result.error
    assert sk.aws.state.calls == []


@pytest.mark.parametrize(
    ("args", "received"),
    [
        (["plan", "--user", "nobody"], "there is no IAM user 'nobody'"),
        (["plan", "--exclude", "nobody"], "there is no IAM user 'nobody'"),
        (["plan", "--user", "WEB"], "there is no IAM user 'WEB'"),
        (["plan", "--keep", KEY], f"{KEY} is not an active key"),
        (["plan", "--force", KEY, "--because", "it is over"], f"{KEY} is not an active key"),
        (["audit", "--org"], "AWSOrganizationsNotInUseException"),
        (["audit", "--accounts", "nowhere.toml"], "the accounts file nowhere.toml cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there(sk: CliHarness, args: list[str], received: str) -> None:
    result = sk(*args)
    assert result.out == ""
    assert received in result.error
    assert result.code in (1, 2)


@pytest.mark.parametrize(
    "args",
    [
        *(["nonsense"], ["audit", "--nonsense"], ["audit", "more"], ["apply"], ["undo"], ["show"]),
        *(["iam-policy"], ["iam-policy", "all"], ["sandbox", "--port", "70000"], ["audit", "--read", "all"]),
        *(["apply", "plan.json", "--max-share", "2"], ["apply", "plan.json", "--max-keys", "0"]),
    ],
    ids=" ".join,
)
def test_what_click_refuses(sk: CliHarness, args: list[str]) -> None:
    result = sk(*args)
    assert (result.code, result.out) == (2, "")
    assert "Usage: " in result.err
    assert "Error: " in result.err


def test_one_key_of_a_pair_may_be_named_to_stay_and_the_other_forced(sk: CliHarness) -> None:
    old, new = sk.key("busy", 1), sk.key("busy", 2)
    result = sk("plan", "--user", "busy", "--keep", old, "--force", old, "--because", "x")
    assert result.code == 2
    assert result.error == f"{old} is named by --keep and by --force"
    sk.make_plan("--user", "busy", "--keep", new, "--force", old, "--because", "moved by hand", expect=0)
    assert sk("apply", sk.plan, "--yes").code == 0
    assert sk.inactive == {"busy/1"}
    assert "moved by hand" in sk("show", sk.run).out


def test_a_benchmark_without_the_control_says_so(sk: CliHarness) -> None:
    result = sk("audit", "--cis", "7.0")
    assert result.code == 3
    assert "CIS 7.0: no such control" in result.out
    assert "CIS 4.0: 1.13" in sk("audit", "--cis", "4.0").out


def test_other_rules_decide_where_they_are_asked_for(sk: CliHarness) -> None:
    result = sk("audit", "--rule", "root-key")
    assert result.code == 0
    assert sk("audit", "--rule", "old-key").code == 3
    assert "never used" in sk("audit", "--rule", "unused-key").out
