"""A rotation that is cut off at every point, and goes on: at most one new key, and the application is never refused."""

from pathlib import Path
from typing import Any

import pytest

from sparekey.model import RunRecord
from sparekey.runs.context import RunContext
from sparekey.runs.deactivate import execute_user
from sparekey.runs.scheduler import performed
from sparekey.runs.worker import load_header, load_record
from support.rotation_lab import ACCOUNT, OLD, PARAMETER, SECRETS_MANAGER, RotationLab, only_step

USER = (ACCOUNT, "etl")


class KilledError(BaseException):
    """The process ends here."""


def play(lab: RotationLab, run: str, context: RunContext, die_at: int) -> int:
    """Execute the user's steps; the process dies at one of its points, before or after a call. Returns the points."""
    header = load_header(context, run)
    work = execute_user(context, header, USER, header.users()[USER])
    point = 0

    def reach() -> None:
        nonlocal point
        point += 1
        if point == die_at:
            raise KilledError

    answer: Any = None
    while True:
        try:
            reach()
            asked = (
                work.send(answer.result())
                if answer and not answer.exception()
                else (work.throw(answer.exception()) if answer else next(work))
            )
        except StopIteration:
            return point
        answer = None
        if callable(asked):
            reach()
            answer = performed(asked)
        else:
            lab.clock.sleep(asked)
        lab.application_calls()


def context_of(lab: RotationLab) -> RunContext:
    return lab.service()._context


def rotate_with_death(lab: RotationLab, die_at: int) -> tuple[bool, RunRecord]:
    """Begin a run, let its process die, go on with another one until the old key is inactive."""
    service = lab.service()
    run = service.apply(lab.plan(), lab.policy, detach=True).id
    context, died = context_of(lab), False
    for attempt in range(40):
        try:
            play(lab, run, context, die_at if attempt == 0 else 0)
        except KilledError:
            died = True
        context = context_of(lab)
        record = load_record(context, run)
        assert lab.statuses()[OLD] == "Active" or lab.stored()["AWS_ACCESS_KEY_ID"] != OLD
        assert len(lab.statuses()) <= 2
        if only_step(record).state == "moving":
            lab.days(9)
        elif only_step(record).state in ("unwatched", "orphaned"):
            break
    return died, load_record(context, run)


def points(store: str, folder: Path) -> int:
    """How many points a rotation has until it waits for the applications."""
    lab = RotationLab(folder, store)
    run = lab.service().apply(lab.plan(), lab.policy, detach=True).id
    return play(lab, run, context_of(lab), 0)


# Parts that the test's workers share.
PARTS = 4


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("store", [SECRETS_MANAGER, PARAMETER], ids=["secret", "parameter"])
def test_a_process_that_dies_anywhere_leaves_a_rotation_that_goes_on(
    store: str, part: int, tmp_path: Path
) -> None:
    count = points(store, tmp_path / "count")
    assert count > 30
    # Of the second store every third point: the coroutine is the same.
    step = PARTS if store == SECRETS_MANAGER else 3 * PARTS
    for die_at in range(part + 1, count + 1, step):
        lab = RotationLab(tmp_path / str(die_at), store)
        died, record = rotate_with_death(lab, die_at)
        rotated = only_step(record)
        assert died
        assert lab.refused == [], die_at
        assert rotated.state == "unwatched", (die_at, rotated)
        assert lab.statuses() == {OLD: "Inactive", rotated.keep: "Active"}, die_at
        assert lab.stored()["AWS_ACCESS_KEY_ID"] == rotated.keep
