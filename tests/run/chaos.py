"""An AWS behind a bad line, by seed: throttled, slow, cut off, failing, stale; its clock jumps an hour.

A seed that fails is played again with `play(seed)`.
"""

import random
from datetime import timedelta

from run.fake import FakeAws, plan_for, small_company
from run.promises import kept
from run.virtual import VirtualEngine
from sparekey.aws.errors import FailedServiceError, ThrottledError, UnreachableError
from sparekey.run.entries import Resumed

ALONE = {
    "api": {"AKIAAPIOLD": "Inactive", "AKIAAPINEW": "Active"},
    "batch": {"AKIABATCH1": "Inactive", "AKIABATCH2": "Inactive", "AKIABATCH3": "Active"},
    "idle": {"AKIAIDLE1": "Inactive", "AKIAIDLE2": "Active"},
}
_ATTEMPTS = 40


class BadLine:
    """What lies between sparekey and AWS; it grows tired, so that every run ends."""

    def __init__(self, aws: FakeAws, seed: int) -> None:
        self.random, self.aws = random.Random(seed), aws
        self.badness = self.random.uniform(0.05, 0.4)
        self.stale_until = aws.clock.now()
        aws.before, aws.after, aws.stale = self.before, self.after, self.stale

    def before(self, _call: str) -> None:
        self.aws.clock.sleep(self.random.uniform(0, 3) * (self.random.random() < self.badness))
        if self.random.random() < 0.01:
            self.aws.clock.sleep(self.random.choice([3600, -3600]))
        if self.random.random() < self.badness:
            raise self.random.choice(
                [
                    ThrottledError("too many requests", code="Throttling"),
                    UnreachableError("cut off before the server acted"),
                    FailedServiceError("HTTP 503", code="ServiceUnavailable"),
                ]
            )

    def after(self, _call: str) -> None:
        if self.random.random() < self.badness:
            raise self.random.choice(
                [
                    UnreachableError("cut off after the server acted"),
                    FailedServiceError("HTTP 500", code="ServiceFailure"),
                ]
            )

    def stale(self) -> timedelta:
        return timedelta(seconds=self.random.choice([0, 0, self.random.uniform(0, 10)]))


def play(seed: int) -> VirtualEngine:
    """Play one seed to its end and hold it against a run left alone; raises AssertionError."""
    aws = small_company()
    line = BadLine(aws, seed)
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))
    for _ in range(_ATTEMPTS):
        engine.run()
        assert all("Active" in aws.statuses(user).values() for user in ALONE), f"seed {seed}"
        if engine.record(run).state == "unwatched":
            break
        line.badness *= 0.8
        engine.hands.note(run, Resumed("somebody"))
        engine.look_after(run, f"again {engine.resumed(run)}")
    found = {user: aws.statuses(user) for user in ALONE}
    assert found == ALONE, f"seed {seed}: {found}, {engine.states(run)}"
    kept(engine.ledger, [run], aws.writes)
    return engine
