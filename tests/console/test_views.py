"""Lists of thousands: narrowed and paged on the server, so that a page never grows with the company."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
import pytest

from sparekey import planner, rules
from sparekey.console.render import STATUSES, for_page, html
from sparekey.console.timeline import WIDTH, timelines
from sparekey.console.views import (
    PAGE,
    AuditView,
    UserFilter,
    audit_view,
    choice_of,
    filter_rows,
    held_users,
    key_ages,
    paginate,
    parse_filter,
    sort_rows,
    user_ids,
    user_states,
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
    Usage,
    User,
)
from sparekey.policy import Policy
from sparekey.selection import HOLD_REASONS
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


def test_rows_are_sorted_either_way_and_rows_without_a_date_are_last(large: AuditView) -> None:
    rows = large.rows
    up, down = sort_rows(rows, "oldest"), sort_rows(rows, "-oldest")
    undated = [row for row in rows if row.oldest is None]
    assert up[-len(undated) :] == down[-len(undated) :] == undated
    dates = [row.oldest for row in up if row.oldest]
    assert dates == sorted(dates, reverse=True)
    assert [row.name for row in sort_rows(rows, "-user")] == sorted((row.name for row in rows), reverse=True)


def test_a_user_has_one_row_of_held_keys_and_each_reason_once(large: AuditView) -> None:
    rows = held_users(large.plan)
    assert len({(row.account, row.user) for row in rows}) == len(rows)
    assert sum(len(row.keys) for row in rows) == len(large.plan.held)


def test_every_user_and_every_active_key_is_counted_once_on_the_overview(large: AuditView) -> None:
    assert sum(count for _, _, count in user_states(large)) == len(large.rows)
    assert sum(count for _, count in key_ages(large, NOW)) == large.active_keys


def test_a_page_of_users_stays_small_however_many_are_chosen(large: AuditView) -> None:
    chosen = {row.id for row in large.rows if row.deactivated}
    assert len(chosen) > 200
    choice = msgspec.structs.replace(choice_of(large, chosen), allowed=50)
    assert choice.keys == 250
    text = html("chosen.html", choice=choice)
    assert len(text) < 2_000
    assert "More than the" in text


@pytest.mark.parametrize("text", [release for _, release in HOLD_REASONS.values()])
def test_no_page_gives_advice_for_a_command_line(text: str) -> None:
    assert " --" not in f" {for_page(text)}"


def test_the_part_of_a_timeline_that_was_not_read_is_marked() -> None:
    read = Usage("AKIA1", "history", NOW - timedelta(days=90), NOW, 0, 0, 0, ())
    lines = timelines([key("AKIA1", 300, 5), key("AKIA2", 300, 5)], {"AKIA1": read}, NOW)
    (gap,) = lines["AKIA1"].unread
    assert (gap.x, round(gap.width)) == (0.0, 700)
    assert [span.width for span in lines["AKIA2"].unread] == [WIDTH]
