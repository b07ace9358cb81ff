"""The exit code that a run comes to."""

import pytest

from sparekey.cli.run_events import run_exit_code
from sparekey.model import RunRecord, RunState, StepRecord, StepState
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
    assert run_exit_code(_record(state, steps)) == code


def test_what_was_handed_over_need_not_be_done() -> None:
    assert run_exit_code(_record("applying", ("planned",)), handed_over=True) == 0
    assert run_exit_code(_record("applying", ("planned", "held")), handed_over=True) == 3
    assert run_exit_code(_record("applying", ("planned", "failed")), handed_over=True) == 1


def _record(state: RunState, steps: tuple[StepState, ...]) -> RunRecord:
    told = tuple(StepRecord("1", "api", "AKIANEW", f"AKIA{n}", step, "") for n, step in enumerate(steps))
    return RunRecord("r-1", "", "", state, NOW, NOW, told, 1, "")
