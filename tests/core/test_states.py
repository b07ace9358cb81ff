"""The table of states: whole, and consistent with itself."""

from typing import get_args

import pytest

from sparekey.model import RunState, StepState
from sparekey.states import RUN_STATES, STEP_STATES


def test_every_state_of_a_step_and_of_a_run_is_in_the_table() -> None:
    assert set(STEP_STATES) == set(get_args(StepState))
    assert set(RUN_STATES) == set(get_args(RunState))


def test_no_two_states_read_the_same() -> None:
    for labels in (
        [info.label for info in STEP_STATES.values()],
        [info.label for info in RUN_STATES.values()],
    ):
        assert len(labels) == len(set(labels))


@pytest.mark.parametrize("state", get_args(StepState))
def test_what_may_be_inactive_can_be_asked_back_unless_it_is_on_its_way(state: StepState) -> None:
    info = STEP_STATES[state]
    assert info.undoable == ((info.may_be_inactive and state != "reactivating") or info.handed_over)
    if info.group == "deactivated":
        assert info.may_be_inactive


def test_a_key_whose_rollback_fails_is_still_inactive() -> None:
    """`undo` ends with 1 for it: the key did not come back."""
    assert STEP_STATES["rollback_failed"].may_be_inactive
    assert STEP_STATES["rollback_failed"].group == "attention"
