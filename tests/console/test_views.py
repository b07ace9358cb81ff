"""Lists of thousands: narrowed and paged on the server, so that a page never grows with the company."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from sparekey import planner, rules
from sparekey.console.render import STATUSES
from sparekey.console.timeline import timelines
from sparekey.console.views import (
    PAGE,
    AuditView,
    UserFilter,
    audit_view,
    filter_rows,
    paginate,
    parse_filter,
    user_ids,
)
from sparekey.model import (
    AccessKey,
    Account,
    Caller,
    FindingStatus,
    LastUsed,
    RunState,
    Snapshot,
    StepState,
    Unreadable,
    User,
)
from sparekey.policy import Policy
from sparekey.states import RUN_STATES, STEP_STATES

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def key(id_: str, age: int, used: int | None) -> AccessKey:
    last = (
        LastUsed("never") if used is None else LastUsed("used", NOW - timedelta(days=used), "s3", "us-east-1")
    )
    return AccessKey(id_, "Active", NOW - timedelta(days=age), last)


def company(users: int) -> AuditView:
    """Two accounts of so many users: each tenth has spare keys, one could not be read."""
    accounts = []
    for account in ("111122223333", "222233334444"):
        people = []
        for number in range(users):
            keys = [key(f"AKIA{account[:4]}{number:05}A", 60, 1)]
            if number % 10 == 0:
                keys.append(key(f"AKIA{account[:4]}{number:05}B", 100 + number, 80 if number % 20 else 2))
            people.append(
                User(f"user-{number:05}", f"arn:aws:iam::{account}:user/user-{number:05}", tuple(keys))
            )
        people[3] = User(people[3].name, people[3].arn, Unreadable("iam:ListAccessKeys", "denied"))
        accounts.append(Account(account, "aws", tuple(people), NOW))
    snapshot = Snapshot(NOW, Caller("111122223333", "arn:aws:iam::111122223333:role/ops"), tuple(accounts))
    return audit_view(rules.assess(snapshot, Policy(), NOW), planner.make_plan(snapshot, Policy(), NOW))


@pytest.fixture(scope="module")
def large() -> AuditView:
    return company(2500)


@pytest.mark.parametrize(
    ("by", "count"),
    [
        (UserFilter(), 500),
        (UserFilter(show="all"), 5000),
        (UserFilter(show="deactivate"), 250),
        (UserFilter(show="held"), 250),
        (UserFilter(show="unreadable"), 2),
        (UserFilter(show="exempt"), 0),
        (UserFilter(account="222233334444"), 250),
        (UserFilter(account="333344445555"), 0),
        (UserFilter(q="USER-0001"), 2),
        (UserFilter(q="akia111100010b"), 1),
        (UserFilter(reason="idle"), 250),
        (UserFilter(reason="no-usage"), 250),
        (UserFilter(age=365), 446),
        (UserFilter(age=365, account="111122223333", reason="idle", q="user-0100"), 0),
        (UserFilter(age=365, account="111122223333", reason="idle", q="user-010"), 5),
    ],
    ids=str,
)
def test_a_filter_lets_through_what_it_says(large: AuditView, by: UserFilter, count: int) -> None:
    assert len(filter_rows(large.rows, by, NOW)) == count


def test_pages_hold_fifty_and_cover_everything_once(large: AuditView) -> None:
    rows = filter_rows(large.rows, UserFilter(), NOW)
    pages = [paginate(rows, number) for number in range(1, 11)]
    assert [len(page.items) for page in pages] == [PAGE] * 10
    assert [row for page in pages for row in page.items] == rows
    assert paginate(rows, 99).number == 10
    assert paginate([], 5).pages == 1


def test_an_address_and_a_filter_say_the_same() -> None:
    by = UserFilter(q="x & y", account="111122223333", show="held", reason="idle", age=90, page=3)
    assert parse_filter(by.query()) == by
    assert parse_filter(by.query(page=4)).page == 4
    assert UserFilter().query() == {}


@pytest.mark.parametrize(
    "given", [{"age": "1e9"}, {"page": "-1"}, {"page": "٣"}, {"show": "x"}, {"age": "91"}]
)
def test_an_address_that_makes_no_sense_asks_for_everything(given: dict[str, str]) -> None:
    assert parse_filter(given) == UserFilter()


def test_users_are_named_with_their_account() -> None:
    assert user_ids(["1/a", "2/a", "a"]) == {("1", "a"), ("2", "a")}


def test_every_state_has_its_words() -> None:
    assert set(STEP_STATES) == set(get_args(StepState))
    assert set(RUN_STATES) == set(get_args(RunState))
    assert set(STATUSES) == set(get_args(FindingStatus))


def test_a_timeline_puts_all_keys_on_one_axis() -> None:
    lines = timelines([key("AKIAOLD", 900, 30), key("AKIANEW", 100, None)], {}, NOW)
    old, new = lines["AKIAOLD"], lines["AKIANEW"]
    assert old.clipped
    assert old.born == 0
    assert old.used == pytest.approx(1000 * 370 / 400, abs=1)
    assert not new.clipped
    assert new.born == pytest.approx(1000 * 300 / 400, abs=1)
    assert new.used is None
    assert "no use known" in new.text
    assert timelines([AccessKey("AKIA", "Active", None)], {}, NOW) == {}
