"""A plan that cannot be used is refused in one sentence before anything is written."""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sparekey.plan import decode, encode
from support.cli_harness import ACCOUNT, CliHarness
from support.fake_aws import plan_for, small_company

Change = Callable[[bytes], bytes]


def _edited(content: bytes) -> bytes:
    plan = json.loads(content)
    step = plan["steps"][0]
    step["key"], step["keep"] = step["keep"], step["key"]
    return json.dumps(plan).encode()


@pytest.fixture(scope="module")
def whole() -> bytes:
    """A plan as it was made, by the engine that the command calls."""
    return encode(plan_for(small_company()))


def _with(**fields: Any) -> Change:
    return lambda content: json.dumps(json.loads(content) | fields).encode()


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (_edited, "the plan was edited: its digest does not match its content"),
        (lambda content: content[:-200], "the plan is not whole"),
        (lambda _: b"", "the plan is not whole"),
        (lambda _: b"hello", "the plan is not whole"),
        (lambda _: b"null", "the plan is not whole"),
        (lambda _: b"\xff\xfe", "the plan is not whole"),
        (lambda _: b"[" * 1_000_000, "the plan is not whole"),
        (lambda _: b'{"schema":' + b"[" * 1_000_000, "the plan is not whole"),
        (lambda _: b'{"x":' * 100_000 + b"1" + b"}" * 100_000, "the plan is not whole"),
        (_with(schema="sparekey/plan/2"), "this version of sparekey reads 'sparekey/plan/1'"),
        (_with(schema="sparekey/audit/1"), "this version of sparekey reads 'sparekey/plan/1'"),
        (_with(more=1), "the plan was edited or made by another version"),
        (_with(steps=[]), "the plan was edited: its digest does not match its content"),
        (_with(digest=""), "the plan was edited: its digest does not match its content"),
        (lambda content: content.replace(b"deactivate", b"delete"), "the plan was edited"),
    ],
    ids=[
        *(
            "edited",
            "truncated",
            "empty",
            "no-json",
            "null",
            "no-text",
            "deep",
            "deep-inside",
            "deep-objects",
        ),
        *("next-version", "audit", "more-fields", "no-steps", "no-digest", "other-action"),
    ],
)
def test_a_plan_that_is_not_as_it_was_made(
    sk: CliHarness, whole: bytes, change: Change, received: str
) -> None:
    sk.plan.write_bytes(change(whole))
    result = sk("apply", sk.plan, "--yes")
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(f"{sk.plan}: ")
    assert received in result.error
    assert sk.writes == 0
    assert not (sk.home / "sparekey.db").exists()


def test_no_plan(sk: CliHarness) -> None:
    result = sk("apply", "nowhere.json", "--yes")
    assert result.code == 2
    assert result.error == "the plan nowhere.json cannot be read: No such file or directory"


def test_a_plan_is_good_for_a_day(sk: CliHarness) -> None:
    plan = decode(sk.make_plan().read_bytes())
    assert plan.expires - plan.generated == timedelta(hours=24)
    sk.aws.clock.advance(timedelta(hours=24, minutes=1))
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert "the plan expired at" in result.error
    assert sk.writes == 0


def test_a_plan_under_another_policy(sk: CliHarness) -> None:
    sk.make_plan()
    sk.policy('quiet = "60d"\n')
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert result.error == "the policy is not the one that the plan was made under"
    assert sk.writes == 0


def test_too_many_keys_for_one_run(sk: CliHarness) -> None:
    sk.make_plan()
    result = sk("apply", sk.plan, "--yes", "--max-keys", "2")
    assert result.code == 1
    assert "the plan deactivates 3 of 9 active keys; at most 2 are allowed" in result.error
    assert sk.writes == 0


def test_the_callers_own_key_never_goes(sk: CliHarness) -> None:
    sk.make_plan()
    sk.act_as("web")
    result = sk("apply", sk.plan, "--yes")
    assert result.code == 1
    assert f"{ACCOUNT}/web" in result.error
    assert sk.writes == 0


def test_without_a_terminal_somebody_must_say_yes(sk: CliHarness) -> None:
    sk.make_plan()
    result = sk("apply", sk.plan)
    assert result.code == 2
    assert result.error == "there is no terminal to ask on"
    assert "Nothing was changed." in result.err
    assert sk.writes == 0


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("hello\nno\n", 1), ("", 130)])
def test_who_does_not_say_yes_has_said_no(sk: CliHarness, answer: str, code: int) -> None:
    sk.make_plan()
    sk.answer(answer)
    result = sk("apply", sk.plan)
    assert result.code == code
    assert "Deactivate 3 keys? [y/N]" in result.err
    assert result.out == ""
    assert "Cancelled. Nothing was changed." in result.err if code == 1 else "interrupted" in result.err
    assert sk.writes == 0
    assert "No run yet" in sk("runs").out


def test_yes_at_the_terminal(sk: CliHarness) -> None:
    sk.make_plan("--user", "web", expect=0)
    sk.answer("y\n")
    assert sk("apply", sk.plan).code == 0
    assert sk.inactive == {"web/1"}


@pytest.mark.parametrize("verb", ["apply", "plan", "audit", "runs", "show", "undo", "stop", "root-keys"])
def test_an_unknown_format_is_refused_before_anything_is_done(sk: CliHarness, verb: str) -> None:
    sk.make_plan()
    calls = len(sk.aws.state.calls)
    args = {"apply": [str(sk.plan), "--yes"], "show": [sk.run], "undo": [sk.run], "stop": [sk.run]}.get(
        verb, []
    )
    result = sk(verb, *args, "--format", "yaml")
    assert (result.code, result.out) == (2, "")
    assert "Invalid value for '--format': 'yaml' is not one of " in result.err
    assert len(sk.aws.state.calls) == calls


def test_a_plan_is_written_whole_or_not_at_all(sk: CliHarness) -> None:
    result = sk("plan", "-o", sk.folder / "missing" / "plan.json")
    assert (result.code, result.out) == (1, "")
    assert result.error.endswith("cannot be written: No such file or directory")
    result = sk("plan", "-o", sk.folder)
    assert result.code == 2
    (sk.folder / "file").touch()
    assert sk("plan", "-o", sk.folder / "file" / "plan.json").code == 1
    assert sorted(path.name for path in sk.folder.iterdir()) == ["file"]


def test_the_file_is_the_plan_as_json_shows_it(sk: CliHarness) -> None:
    result = sk("plan", "-o", sk.plan, "--format", "json")
    assert result.out.encode() == sk.plan.read_bytes()


def test_a_plan_from_a_pipe_cannot_be_confirmed(sk: CliHarness) -> None:
    """Nobody may take the plan on stdin for the answer."""
    sk.make_plan()
    assert not sys.stdin.isatty()
    assert sk("apply", "/dev/null", "--yes").code == 1
