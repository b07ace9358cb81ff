"""Plan files that were edited, come from elsewhere, or are no plan: what apply believes of them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparekey.plan import Plan, seal
from sparekey.sandbox.scenario import Deny
from support.cli_harness import ACCOUNT, CliHarness

EXEMPT = '[[exempt]]\nuser = "web"\nowner = "team-a"\nreason = "moves"\nexpires = 2099-01-01\n'


def edited(sk: CliHarness, **changes: Any) -> dict[str, Any]:
    """Edit the plan's file and give it a new digest; returns what it holds now."""
    import msgspec

    document: dict[str, Any] = json.loads(sk.plan.read_text()) | changes
    sealed = seal(msgspec.convert(document, Plan))
    sk.plan.write_bytes(msgspec.json.encode(sealed))
    document["digest"] = sealed.digest
    return document


def held(said_out: str) -> str:
    return next(line for line in said_out.splitlines() if "HELD" in line)


def test_a_plan_from_another_state_is_read_again_and_carried_out(sk: CliHarness) -> None:
    """Planned on one machine, applied on another, as in CI."""
    sk.make_plan()
    sk.patch.setenv("SPAREKEY_HOME", str(sk.folder / "other"))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0
    assert "this state did not make the plan: its users were read again" in result.err
    assert sk.inactive == {"batch/1", "batch/2", "web/1"}


def test_a_plan_of_this_state_is_not_read_again(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    before = len(sk.aws.state.calls)
    sk.answer("n\n")
    result = sk("apply", sk.plan)
    assert "this state did not make the plan" not in result.err
    asked = {call.action for call in sk.aws.state.calls[before:]}
    assert not asked & {"iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"}


def test_an_exempt_users_key_is_held(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    document = json.loads(sk.plan.read_text())
    sk.policy(EXEMPT)
    sk("plan", "-o", sk.folder / "second.json", "--user", "web")
    second = json.loads((sk.folder / "second.json").read_text())
    assert second["steps"] == []
    edited(sk, policy_digest=second["policy_digest"], steps=document["steps"])
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0
    assert "policy exempts this user until 2099-01-01 (team-a: moves)" in result.err
    assert sk.inactive == set()


def test_what_is_shown_and_recorded_is_read_anew(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    document = json.loads(sk.plan.read_text())
    document["steps"][0] |= {
        "why": "LIE",
        "evidence": [{"source": "LIE", "fact": "LIE", "key": "", "at": None}],
    }
    edited(sk, steps=document["steps"], notes=["LIE"])
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 0
    assert sk.inactive == {"web/1"}
    assert "LIE" not in result.out + result.err
    assert "LIE" not in sk("show", sk.run).out
    assert "LIE" not in sk("ledger", "export", sk.run).out
    assert json.loads(sk("show", sk.run, "--format", "json").out)["plan_digest"].startswith(sk.run[2:])


@pytest.mark.parametrize("option", ["--max-share", "--max-account-share"])
def test_the_active_keys_are_counted_where_a_share_is_named(sk: CliHarness, option: str) -> None:
    sk.make_plan()
    accounts = json.loads(sk.plan.read_text())["accounts"]
    assert accounts[0]["active_keys"] == 9
    edited(sk, accounts=[accounts[0] | {"active_keys": 100_000}])
    result = sk("apply", sk.plan, "--yes", option, "0.2")
    assert result.code == 1
    assert " of 9 active keys; at most 1 " in result.error
    assert sk.writes == 0
    sk.answer("n\n")
    assert "Deactivate 3 keys?" in sk("apply", sk.plan, option, "0.4").err


@pytest.mark.parametrize("denied", ["iam:GetCredentialReport", "iam:GetAccountSummary", "iam:ListUsers"])
def test_active_keys_that_cannot_be_counted_count_as_none(
    sk: CliHarness, monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    monkeypatch.setattr("sparekey.app.plan_refresh._READ_ALONE_UP_TO", 3)
    sk.make_plan()
    edited(sk)
    sk.patch.setenv("SPAREKEY_HOME", str(sk.folder / "other"))
    sk.fault(Deny(action=denied))
    sk.fault(Deny(action="iam:ListAccessKeys", target="one"))
    result = sk("apply", sk.plan, "--yes", "--max-share", "0.34")
    # Of nine, one is not listed; the credential report has no room for the third key of a user.
    assert "deactivates 3 of 8 active keys; at most 2 are allowed" in result.error
    assert sk.writes == 0


def forced(sk: CliHarness) -> str:
    """A plan of another state that retires a key in use; returns the key."""
    old = sk.key("busy", 1)
    sk.make_plan("--user", "busy", "--force", old, "--because", "moved by hand", expect=0)
    sk.patch.setenv("SPAREKEY_HOME", str(sk.folder / "other"))
    return old


@pytest.mark.slow
def test_a_forced_key_needs_a_person_where_only_the_file_speaks_for_it(sk: CliHarness) -> None:
    old = forced(sk)
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert f"its overrides are not confirmed: --force {old}" in result.error
    assert sk.writes == 0
    result = sk("apply", sk.plan, "--yes", "--force", sk.key("web", 1))
    assert result.code == 2
    assert "the plan has no such override" in result.error
    result = sk("apply", sk.plan, "--yes", "--force", old)
    assert result.code == 0, result.err
    assert sk.inactive == {"busy/1"}


def test_a_forced_key_is_named_before_the_question(sk: CliHarness) -> None:
    old = forced(sk)
    sk.answer("y\n")
    result = sk("apply", sk.plan)
    assert result.code == 0, result.err
    assert f"override: --force {old} (user busy in account {ACCOUNT}; last used 2 h ago for" in result.err
    assert "moved by hand" in result.err
    assert "with 1 override as listed above?" in result.err
    assert sk.inactive == {"busy/1"}


def test_a_forced_step_cannot_pass_as_an_idle_one(sk: CliHarness) -> None:
    old = forced(sk)
    document = json.loads(sk.plan.read_text())
    lie = f"not used for 45 days; {old} is in use"
    edited(sk, steps=[document["steps"][0] | {"why": lie, "evidence": []}])
    sk.answer("n\n")
    result = sk("apply", sk.plan)
    assert lie not in result.err
    assert f"--force {old}" in result.err
    assert sk.writes == 0


def test_a_run_that_has_begun_shows_its_own_plan_and_reads_no_usage(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    assert sk("apply", sk.plan, "--yes", "--detach").code == 0
    result = sk("apply", sk.plan, "--yes", "--usage", "history")
    assert result.code == 2
    assert "--usage has no effect" in result.error
    sk.answer("n\n")
    assert "Continue with 1 key?" in sk("apply", sk.plan).err


def test_usage_is_read_again_on_request(sk: CliHarness) -> None:
    sk.make_plan("--usage", "history")
    sk.patch.setenv("SPAREKEY_HOME", str(sk.folder / "other"))
    sk.answer("n\n")
    assert "usage-unbound" in sk("apply", sk.plan).err
    sk.answer("n\n")
    result = sk("apply", sk.plan, "--usage", "history")
    assert "Deactivate 3 keys?" in result.err
    assert "usage-unbound" not in result.err


def test_without_a_state_a_plan_is_made_all_the_same(sk: CliHarness) -> None:
    blocked = sk.folder / "file"
    blocked.touch()
    sk.patch.setenv("SPAREKEY_HOME", str(blocked / "home"))
    config = sk.folder / "policy.toml"
    config.write_text("")
    config.chmod(0o600)
    assert sk("plan", "-o", sk.plan, "--config", config, "--user", "web").code == 0
    result = sk("plan", "-o", sk.plan, "--config", config, "--user", "web", "--keep", sk.key("web", 2))
    assert result.code == 0
    assert "the plan is not on record here" in result.err


def _nested(path: Path) -> None:
    path.write_text("[" * 300_000)


def _nan(path: Path) -> None:
    document = json.loads(path.read_text())
    document["accounts"][0]["active_keys"] = float("nan")
    path.write_text(json.dumps(document))


def _negative(path: Path) -> None:
    document = json.loads(path.read_text())
    document["accounts"][0]["active_keys"] = -5
    path.write_text(json.dumps(document))


def _digits(path: Path) -> None:
    path.write_text('{"schema":"sparekey/plan/1","x":' + "9" * 100_000 + "}")


def _long_schema(path: Path) -> None:
    path.write_text(json.dumps({"schema": "x" * 1_000_000}))


def _unknown_field(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"x" * 100_000: 1}))


def _surrogate(path: Path) -> None:
    path.write_text('{"schema": "\\ud800"}')


def _not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{\x00}\x00")


def _empty(path: Path) -> None:
    path.write_text("")


def _list(path: Path) -> None:
    path.write_text("[1, 2]")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


SPOILERS = (
    *(_nested, _nan, _negative, _digits, _long_schema, _unknown_field, _surrogate, _not_text, _empty, _list),
    *(_sparse, _pipe),
)


def test_what_is_no_plan_is_refused_in_one_sentence(sk: CliHarness) -> None:
    whole = sk.make_plan("--user", "web", expect=0).read_bytes()
    for spoil in SPOILERS:
        sk.plan.write_bytes(whole)
        spoil(sk.plan)
        for verb in (("apply", "--yes"), ("usage", "--plan")):
            result = sk(*verb, sk.plan)
            assert result.code in (1, 2), result.err
            assert len(result.error) < 500, spoil
            assert result.out == ""
    assert sk.writes == 0


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"arn": f"arn:aws-cn:iam::{ACCOUNT}:user/web"}, "is not the ARN of this user"),
        ({"arn": f"arn:aws:iam::{ACCOUNT}:user/batch"}, "is not the ARN of this user"),
    ],
)
def test_users_of_another_partition_or_name_are_refused(
    sk: CliHarness, changes: dict[str, str], received: str
) -> None:
    sk.make_plan("--user", "web", expect=0)
    step = json.loads(sk.plan.read_text())["steps"][0]
    edited(sk, steps=[step | {"preconditions": step["preconditions"] | changes}])
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert received in result.error
    assert sk.writes == 0


EMPTY = (
    ("undo", ""),
    ("undo", "RUN", "--key", ""),
    ("undo", "RUN", "--key="),
    ("stop", ""),
    ("resume", ""),
    ("show", ""),
    ("report", ""),
    ("ledger", "export", ""),
    ("ledger", "verify", ""),
    ("ledger", "verify", "RUN", "--head", ""),
    ("plan", "--user", ""),
    ("plan", "--exclude", ""),
    ("plan", "--keep="),
    ("plan", "-o", ""),
    ("plan", "--org", "--ou", ""),
    ("plan", "--org", "--include", ""),
    ("audit", "--org", "--exclude-account", ""),
    ("audit", "--profile", ""),
    ("audit", "--role", ""),
    ("audit", "--config", ""),
    ("usage", ""),
    ("usage", "--user", ""),
    ("delete", "--older-than", ""),
    ("delete", "--older-than", "90d", "--root", "", "--account", ""),
    ("apply", ""),
    ("apply", "plan.json", "--waves", ""),
    ("apply", "plan.json", "--database-url", ""),
    ("console", "--usage="),
)


def test_what_is_given_and_empty_is_refused(sk: CliHarness) -> None:
    for args in EMPTY:
        result = sk(*args)
        assert (result.code, result.out) == (2, ""), args
        assert result.error.endswith("is given and empty"), args
    assert sk.aws.state.calls == []


@pytest.mark.slow
def test_undo_names_the_run_and_its_keys_first(sk: CliHarness) -> None:
    sk.make_plan()
    sk("apply", sk.plan, "--yes")
    for short in ("r", "r-", sk.run[:5], "x" + sk.run, "*", "%"):
        result = sk("undo", short)
        assert (result.code, result.error) == (2, f"{short!r} is not the id of a run; nothing was changed")
    assert len(sk.inactive) == 3
    result = sk("undo", sk.run[:6], "--key", sk.key("web", 1))
    assert result.code == 0
    first = result.err.splitlines()[:2]
    assert first[0].startswith("as arn:aws:iam::")
    assert first[1].startswith(f"undo of run {sk.run} (started ")
    assert first[1].endswith(f"reactivates 1 key: 1 in account {ACCOUNT}")
    assert sk.inactive == {"batch/1", "batch/2"}
