"""The exit code that a run comes to."""

import pytest

from sparekey.cli.run_events import run_exit_code
from sparekey.model import RunRecord, RunState, StepRecord, StepState
from support.cli_harness import CliHarness
from support.clocks import NOW


@pytest.mark.parametrize(
    ("state", "steps", "code"),
    [
        ("settled", ("settled",), 0),
        ("watching", ("watching", "planned"), 0),
        ("watching", ("watching", "failed"), 1),
        ("watching", ("watching", "failed", "held"), 1),
        ("stopped", ("unwatched", "planned"), 0),
        ("stopped", ("in_doubt",), 1),
        ("watching", ("rollback_failed",), 1),
        ("watching", ("reactivating", "watching"), 1),
        ("applying", ("planned",), 1),
        ("unwatched", ("unwatched", "held"), 3),
    ],
)
def test_a_key_that_did_not_turn_inactive_is_an_error(
    state: RunState, steps: tuple[StepState, ...], code: int
) -> None:
    assert run_exit_code(_record(state, steps), fail_on_held=True) == code


def test_what_was_handed_over_need_not_be_done() -> None:
    assert run_exit_code(_record("applying", ("planned",)), handed_over=True) == 0
    held = _record("applying", ("planned", "held"))
    assert run_exit_code(held, handed_over=True, fail_on_held=True) == 3
    assert run_exit_code(held, handed_over=True) == 0
    assert run_exit_code(_record("applying", ("planned", "failed")), handed_over=True) == 1


def _record(state: RunState, steps: tuple[StepState, ...]) -> RunRecord:
    received = tuple(StepRecord("1", "api", "AKIANEW", f"AKIA{n}", step, "") for n, step in enumerate(steps))
    return RunRecord("r-1", "", "", state, NOW, NOW, received, 1, "")


def test_an_audit_exits_with_3_for_spare_keys_unless_asked_for_zero(sk: CliHarness) -> None:
    assert sk("audit").code == 3
    assert sk("audit", "--exit-zero").code == 0


def test_exit_zero_never_covers_what_could_not_be_read(sk: CliHarness) -> None:
    sk.deny("iam:ListUsers")
    assert sk("audit", "--exit-zero").code == 4


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 0), (("--fail-on-held",), 3), (("--detailed-exitcode",), 2)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_plan_with_held_keys_exits_as_asked(sk: CliHarness, options: tuple[str, ...], code: int) -> None:
    assert sk("plan", *options).code == code


def test_detailed_exitcode_is_0_when_nothing_is_to_be_done(sk: CliHarness) -> None:
    assert sk("plan", "--user", "one", "--detailed-exitcode").code == 0


def test_apply_exits_with_3_for_held_keys_only_when_asked(sk: CliHarness) -> None:
    plan = sk.make_plan()
    assert sk("apply", plan, "--yes", "--no-watch", "--fail-on-held").code == 3
