"""The five conditions, one table: each row changes one thing in a case that holds all of them."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from sparekey.cutover import ConsumersMoved, ConsumersNotMoved, have_consumers_moved
from sparekey.decision import DecisionContext
from sparekey.model import (
    NEVER_USED,
    NOT_READ,
    AccessKey,
    Caller,
    Consumer,
    LastUsed,
    ServiceUse,
    Unreadable,
    Usage,
)
from sparekey.policy import Policy, Span

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD, KEPT = "AKIAOLD0000000000000", "AKIAKEPT000000000000"


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def use(first: float, last: float, gap: float = 0.5, **changes: Any) -> ServiceUse:
    values: dict[str, Any] = {
        "service": "dynamodb",
        "region": "eu-central-1",
        "actions": ("GetItem",),
        "calls": 100,
        "errors": 0,
        "first_seen": ago(first),
        "last_seen": ago(last),
        "longest_gap": timedelta(days=gap),
        "own_last": ago(last),
    }
    return ServiceUse(**(values | changes))


def app(*uses: ServiceUse, agent: str = "boto3", source: str = "10.0.0.1") -> Consumer:
    return Consumer(agent, source, uses)


def usage(key: str, *consumers: Consumer, **changes: Any) -> Usage:
    values: dict[str, Any] = {
        "source": "archive",
        "since": None,
        "until": NOW,
        "calls": sum(consumer.calls for consumer in consumers),
        "errors": 0,
        "sessions": 0,
        "last_seen": max((consumer.last_seen for consumer in consumers), default=None),
    }
    return Usage(key=key, consumers=consumers, **(values | changes))


def last_used(days: float, service: str = "dynamodb", region: str = "eu-central-1") -> LastUsed:
    return LastUsed("used", ago(days), service, region)


@dataclass(frozen=True)
class Case:
    """An application that moved ten days ago: everything holds."""

    last: LastUsed = field(default_factory=lambda: last_used(10))
    old: Usage | None = field(default_factory=lambda: usage(OLD, app(use(60, 10))))
    kept: Usage | None = field(default_factory=lambda: usage(KEPT, app(use(9.9, 0.1))))
    policy: Policy = field(default_factory=Policy)

    def verdict(self) -> ConsumersMoved | ConsumersNotMoved:
        usages = {entry.key: entry for entry in (self.old, self.kept) if entry is not None}
        old = AccessKey(OLD, "Active", ago(400), self.last)
        context = DecisionContext(self.policy, NOW, Caller("111122223333", ""), usages=usages)
        return have_consumers_moved(old, AccessKey(KEPT, "Active", ago(20), last_used(0)), context)


BASE = Case()
HELD: dict[str, tuple[str, Case]] = {
    "no usage of the old key": ("no-usage", replace(BASE, old=None)),
    "no usage of the kept key": ("no-usage", replace(BASE, kept=None)),
    "never used": ("no-usage", replace(BASE, last=NEVER_USED)),
    "last use not read": ("recent-use", replace(BASE, last=NOT_READ)),
    "last use unreadable": ("recent-use", replace(BASE, last=LastUsed("unreadable", why="AccessDenied"))),
    "used yesterday": ("recent-use", replace(BASE, last=last_used(1))),
    "used exactly cutover_quiet ago": ("recent-use", replace(BASE, last=last_used(7))),
    "the policy asks for more quiet": (
        "recent-use",
        replace(BASE, policy=Policy(cutover_quiet=Span(days=20))),
    ),
    "a session of it called since": (
        "recent-use",
        replace(BASE, old=usage(OLD, app(use(60, 10), use(9, 3, service="s3", own_last=None)))),
    ),
    "last used for S3, which the source lacks": ("source-blind", replace(BASE, last=last_used(10, "s3"))),
    "last used for a service that nobody knows": ("source-blind", replace(BASE, last=last_used(10, "warp"))),
    "last used for a service that IAM does not name": (
        "source-blind",
        replace(BASE, last=LastUsed("used", ago(10), None, None)),
    ),
    "last used in another region": ("source-blind", replace(BASE, last=last_used(10, region="us-east-1"))),
    "last use more than an hour from any call": ("source-blind", replace(BASE, last=last_used(9.95))),
    "only a session called at that time": (
        "source-blind",
        replace(BASE, old=usage(OLD, app(use(60, 10, own_last=ago(20))))),
    ),
    "the source saw nothing at all": ("source-blind", replace(BASE, old=usage(OLD))),
    "cut short": ("usage-partial", replace(BASE, old=usage(OLD, app(use(60, 10)), partial=("200 pages",)))),
    "the kept key's usage cut short": (
        "usage-partial",
        replace(BASE, kept=usage(KEPT, app(use(9, 0)), partial=("200 pages",))),
    ),
    "a file was unread": (
        "usage-partial",
        replace(BASE, old=usage(OLD, app(use(60, 10)), unread=(Unreadable("a.json.gz", "cut"),))),
    ),
    "the window is shorter than quiet": (
        "usage-partial",
        replace(BASE, old=usage(OLD, app(use(12, 10)), since=ago(20))),
    ),
    "not seen on the kept key": ("not-moved", replace(BASE, kept=usage(KEPT))),
    "another agent on the kept key": (
        "not-moved",
        replace(BASE, kept=usage(KEPT, app(use(9.9, 0), agent="aws-cli"))),
    ),
    "another host on the kept key": (
        "not-moved",
        replace(BASE, kept=usage(KEPT, app(use(9.9, 0), source="10.0.0.2"))),
    ),
    "another service on the kept key": (
        "not-moved",
        replace(BASE, kept=usage(KEPT, app(use(9.9, 0, service="sqs")))),
    ),
    "seen on the kept key before, not since": (
        "not-moved",
        replace(BASE, kept=usage(KEPT, app(use(19, 11)))),
    ),
    "half moved: a second host stayed": (
        "not-moved",
        replace(BASE, old=usage(OLD, app(use(60, 10)), app(use(60, 12), source="10.0.0.2"))),
    ),
    "a weekly job, quiet for ten days": ("gap", replace(BASE, old=usage(OLD, app(use(60, 10, gap=7))))),
    "quiet exactly twice the gap": ("gap", replace(BASE, old=usage(OLD, app(use(60, 10, gap=5))))),
    "one call on each key, nine days apart": (
        "gap",
        replace(BASE, old=usage(OLD, app(use(10, 10, gap=0))), kept=usage(KEPT, app(use(1, 1, gap=0)))),
    ),
    "the archive ends soon after the last use": (
        "gap",
        replace(BASE, old=usage(OLD, app(use(60, 10, gap=1)), until=ago(9))),
    ),
    "it alternates between regions": (
        "gap",
        replace(BASE, old=usage(OLD, app(use(40, 30, region="us-east-1"), use(10, 10, gap=0)))),
    ),
}


@pytest.mark.parametrize(("reason", "case"), HELD.values(), ids=HELD)
def test_held(reason: str, case: Case) -> None:
    verdict = case.verdict()
    assert isinstance(verdict, ConsumersNotMoved)
    assert verdict.reason == reason
    assert verdict.why
    assert verdict.release


MOVED: dict[str, Case] = {
    "an application that moved": BASE,
    "in another region now": replace(BASE, kept=usage(KEPT, app(use(9.9, 0, region="us-east-1")))),
    "both keys used for a while": replace(BASE, kept=usage(KEPT, app(use(40, 0)))),
    "IAM is half an hour off": replace(BASE, last=last_used(10 + 1 / 48)),
    "a weekly job that ran thrice since": replace(
        BASE,
        last=last_used(22),
        old=usage(OLD, app(use(60, 22, gap=7))),
        kept=usage(KEPT, app(use(15, 1, gap=7))),
    ),
    "its sessions moved too": replace(
        BASE,
        old=usage(OLD, app(use(60, 10), use(60, 9, service="s3", own_last=None))),
        kept=usage(KEPT, app(use(9.9, 0), use(8.9, 0, service="s3", own_last=None))),
    ),
    "the window reaches back quiet": replace(BASE, old=usage(OLD, app(use(44, 10)), since=ago(45))),
}


@pytest.mark.parametrize("case", MOVED.values(), ids=MOVED)
def test_moved(case: Case) -> None:
    verdict = case.verdict()
    assert isinstance(verdict, ConsumersMoved), verdict
    assert {entry.key for entry in verdict.evidence} == {OLD, KEPT}


def test_a_consumer_whose_calls_with_the_kept_key_all_fail_has_not_moved() -> None:
    failing = usage(KEPT, app(use(9.9, 0.1, errors=100)))
    held = Case(kept=failing).verdict()
    assert isinstance(held, ConsumersNotMoved)
    assert held.reason == "not-moved"
    assert "all its calls there failed" in held.why
    assert isinstance(
        Case(old=usage(OLD, app(use(60, 10, errors=100))), kept=failing).verdict(), ConsumersMoved
    )


def test_a_held_step_names_exactly_those_that_have_not_moved() -> None:
    stayed = app(use(60, 12), agent="terraform", source="10.0.0.2")
    verdict = replace(BASE, old=usage(OLD, app(use(60, 10)), stayed)).verdict()
    assert isinstance(verdict, ConsumersNotMoved)
    assert [entry.fact for entry in verdict.evidence] == [
        "terraform from 10.0.0.2 (dynamodb), last seen 2026-02-17 12:00:00 UTC"
    ]
    assert "boto3" not in verdict.why


def test_many_that_have_not_moved_are_counted() -> None:
    stayed = [app(use(60, 10), source=f"10.0.0.{host}") for host in range(9)]
    verdict = replace(BASE, old=usage(OLD, *stayed), kept=usage(KEPT)).verdict()
    assert isinstance(verdict, ConsumersNotMoved)
    assert verdict.why.endswith("and 4 more")
    assert len(verdict.evidence) == 9


def test_the_verdict_is_a_value() -> None:
    for case in (BASE, *(case for _, case in HELD.values())):
        assert case.verdict() == case.verdict()
        assert msgspec.json.decode(msgspec.json.encode(case.verdict()))


def test_the_order_of_consumers_changes_nothing() -> None:
    consumers = (app(use(60, 10)), app(use(60, 12), source="10.0.0.2"))
    there, back = (replace(BASE, old=usage(OLD, *order)).verdict() for order in (consumers, consumers[::-1]))
    assert there == back
