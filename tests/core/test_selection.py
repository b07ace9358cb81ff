"""What case files cannot say: the verdict of cutover is carried on, every hold stands in the table."""

import ast
import inspect
import string
from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given, settings

from sparekey import cutover, rotation
from sparekey import selection as room
from sparekey.decision import DecisionContext, Overrides
from sparekey.model import AccessKey, Caller, Evidence, LastUsed, Snapshot, User
from sparekey.planner import make_plan
from sparekey.policy import Policy
from sparekey.selection import HOLD_REASONS, DeactivateKey, HeldKey, choose
from support.strategies import NOW, decisions

ROLE = Caller("111111111111", "arn:aws:sts::111111111111:assumed-role/ops/session")
SEEN = Evidence("history", "boto3 from 192.0.2.1 (s3): 5 calls", "AKIAOLD")


def alice() -> User:
    works = LastUsed("used", NOW - timedelta(days=1), "s3", "us-east-1")
    keys = (
        AccessKey("AKIAOLD", "Active", NOW - timedelta(days=400), works),
        AccessKey("AKIANEW", "Active", NOW - timedelta(days=30), works),
    )
    return User("alice", "arn:aws:iam::111111111111:user/alice", keys)


@pytest.mark.parametrize("moved", [True, False])
def test_the_verdict_of_cutover_decides_on_a_used_key(moved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    received = []

    def verdict(old: AccessKey, kept: AccessKey, *rest: object) -> object:
        received.append((old.id, kept.id))
        if moved:
            return cutover.ConsumersMoved("all moved", (SEEN,))
        return cutover.ConsumersNotMoved("no-usage", "not all moved", "move them", (SEEN,))

    monkeypatch.setattr(cutover, "have_consumers_moved", verdict)
    choice = choose("111111111111", alice(), DecisionContext(Policy(), NOW, ROLE))
    assert choice is not None
    assert received == [("AKIAOLD", "AKIANEW")]
    assert choice.keep == "AKIANEW"
    (outcome,) = choice.outcomes
    assert outcome.evidence[-1] == SEEN
    match outcome:
        case DeactivateKey(key, reason, why):
            assert (moved, key, reason, why) == (True, "AKIAOLD", "cutover", "all moved")
        case HeldKey(key, reason, why, release):
            assert (moved, key, reason) == (False, "AKIAOLD", "no-usage")
            assert (why, release) == ("not all moved", "move them")


@settings(max_examples=150, deadline=None)
@given(decisions())
def test_every_hold_stands_in_the_table(situation: tuple[Snapshot, Policy, Overrides]) -> None:
    snapshot, policy, asked = situation
    for step in make_plan(snapshot, policy, NOW, overrides=asked).held:
        if step.reason not in HOLD_REASONS:
            assert step.reason in get_args(cutover.NotMovedReason), "only cutover gives reasons of its own"
        assert "{" not in step.why + step.release


def test_every_hold_in_the_table_is_given_with_what_its_text_needs() -> None:
    given_names = {
        call.args[0].value: {keyword.arg for keyword in call.keywords}
        for module in (room, rotation)
        for call in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "make_hold"
        if isinstance(call.args[0], ast.Constant)
    }
    needed = {
        reason: {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}
        for reason, texts in HOLD_REASONS.items()
    }
    assert given_names == needed


def test_a_name_full_of_braces_is_only_text() -> None:
    """What a user or a rotator is called is never read as a template."""
    key = AccessKey("AKIA{why}", "{status}", NOW - timedelta(days=9))
    user = User("{key}", "arn:aws:iam::111111111111:user/x", (key, key))
    choice = choose("111111111111", user, DecisionContext(Policy(), NOW, ROLE))
    assert choice is not None
    outcome = choice.outcomes[0]
    assert isinstance(outcome, HeldKey)
    assert outcome.why.startswith("AKIA{why} has the status '{status}'")
