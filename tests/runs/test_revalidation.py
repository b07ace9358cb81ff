"""What is read again before a plan of another state is shown: how far counting goes, and what cannot be read."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from sparekey.app import plan_refresh
from sparekey.app.connection import Connection
from sparekey.app.override import describe_overrides
from sparekey.aws.errors import DeniedError, NotEnteredError
from sparekey.decision import Overrides
from sparekey.errors import RefusedError, SparekeyError
from sparekey.guards import Limits
from sparekey.model import Quarantined
from sparekey.plan import Plan, PlannedAccount, check_usable
from sparekey.policy import Policy
from support.clocks import NOW, VirtualClock
from support.fake_aws import ACCOUNT, CALLER, FakeAws, FakeGateway, key, plan_for, small_company, used

OTHERS = tuple(f"{number:012}" for number in range(2, 40))


class Gateway(FakeGateway):
    """An account of the fake that also tells its alias and how many users it has."""

    leaked: tuple[Quarantined, ...] = ()

    def alias(self) -> str:
        raise DeniedError("not allowed")

    def quarantined_users(self) -> tuple[Quarantined, ...]:
        return self.leaked

    def summary(self) -> SimpleNamespace:
        return SimpleNamespace(user_count=sum(account == self.account for account, _ in self.aws.users))


class FakeApp:
    """Accounts of the fake; `closed` cannot be reached."""

    def __init__(self, aws: FakeAws, closed: tuple[str, ...] = ()) -> None:
        self.aws, self.closed, self.asked = aws, closed, list[str]()
        self.clock, self.policy = aws.clock, Policy()
        self.gateway = SimpleNamespace(partition="aws")

    def account(self, account: str) -> Gateway:
        self.asked.append(account)
        if account in self.closed:
            raise RefusedError(f"account {account} cannot be reached")
        return Gateway(self.aws, account)


def company() -> tuple[FakeAws, Plan]:
    """Three keys to deactivate in one account, and 38 further accounts with two keys each."""
    aws = small_company(VirtualClock())
    plan = plan_for(aws)
    for account in OTHERS:
        aws.add("u", key(f"AKIA{account}A", 9), key(f"AKIA{account}B", 30, used(1)), account=account)
    more = tuple(PlannedAccount(account, "aws", "", 99) for account in OTHERS)
    return aws, msgspec.structs.replace(plan, accounts=(*plan.accounts, *more))


def count(app: FakeApp, plan: Plan, limits: Limits) -> dict[str, int]:
    return plan_refresh.active_keys(cast("Connection", app), plan, limits)


def test_counting_begins_where_keys_go_and_ends_once_it_is_enough() -> None:
    aws, plan = company()
    app = FakeApp(aws)
    assert len(plan.deactivations) == 4
    counts = count(app, plan, Limits(max_share=0.2))
    assert counts[ACCOUNT] == 7
    assert len(counts) == 16 < len(plan.accounts)
    assert len(count(app, plan, Limits(max_share=0.01))) == len(plan.accounts)


def test_an_account_that_cannot_be_reached_has_no_keys() -> None:
    aws, plan = company()
    counts = count(FakeApp(aws, closed=OTHERS), plan, Limits(max_share=0.2))
    assert sum(counts.values()) == 7


def test_users_of_an_account_that_cannot_be_entered_are_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    aws, plan = company()

    def refuse(_self: Any, _user: str) -> None:
        raise NotEnteredError("the role does not trust us", code="AccessDenied")

    monkeypatch.setattr(Gateway, "list_keys", refuse)
    again = plan_refresh.replan(cast("Connection", FakeApp(aws)), plan, CALLER, {}, "", None)
    assert again.deactivations == ()
    assert {step.reason for step in again.held} == {"unread"}
    assert len(again.unread) == 3


def test_users_whom_aws_has_quarantined_since_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    aws, plan = company()
    monkeypatch.setattr(Gateway, "leaked", (Quarantined("api", "", "AWSCompromisedKeyQuarantineV3"),))
    again = plan_refresh.replan(cast("Connection", FakeApp(aws)), plan, CALLER, {}, "", None)
    assert {(step.user, step.reason) for step in again.held} == {("api", "quarantined")}
    assert len(again.deactivations) == 3


def test_a_forced_key_of_a_quarantined_user_is_brought_back_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aws, plan = company()
    step = next(step for step in plan.deactivations if step.user == "api")
    forced = msgspec.structs.replace(step, reason="forced")
    steps = tuple(forced if one is step else one for one in plan.steps)
    plan = msgspec.structs.replace(plan, steps=steps, overrides=Overrides(force={step.key: "leaked"}))
    monkeypatch.setattr(Gateway, "leaked", (Quarantined("api", "", "AWSCompromisedKeyQuarantineV3"),))
    decided = plan_refresh.replan(cast("Connection", FakeApp(aws)), plan, CALLER, {}, "", None)
    again = next(step for step in decided.deactivations if step.user == "api")
    assert "quarantined" in again.never_reactivate


def test_where_nobody_says_who_is_quarantined_all_are_held_and_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aws, plan = company()

    def deny(_self: Any) -> None:
        raise DeniedError("not allowed")

    monkeypatch.setattr(Gateway, "quarantined_users", deny)
    again = plan_refresh.replan(cast("Connection", FakeApp(aws)), plan, CALLER, {}, "", None)
    assert {step.reason for step in again.steps} == {"quarantine-unread"}
    assert [entry.what for entry in again.unread] == [
        f"whom AWS has quarantined for a leaked key in account {ACCOUNT}"
    ]


def test_a_user_who_is_gone_is_held() -> None:
    aws, plan = company()
    del aws.users[ACCOUNT, "api"]
    again = plan_refresh.replan(cast("Connection", FakeApp(aws)), plan, CALLER, {}, "", None)
    assert [step.user for step in again.held] == ["api"]
    assert len(again.deactivations) == 3


def test_overrides_of_which_the_plan_has_no_step_are_named() -> None:
    _, plan = company()
    plan = msgspec.structs.replace(plan, overrides=Overrides(("AKIAX",), {"AKIAY": "x"}))
    assert describe_overrides(plan, Policy(), NOW) == (
        "--force AKIAY: the plan has no step for it",
        "--keep AKIAX: no user of the plan keeps it",
    )


@pytest.mark.parametrize("year", [1, 9999])
def test_times_at_the_ends_of_the_calendar_are_refused(year: int) -> None:
    _, plan = company()
    odd = datetime(year, 1 if year == 1 else 12, 1 if year == 1 else 31, 23, 59, 59, tzinfo=UTC)
    for name in ("generated", "expires"):
        changed = msgspec.structs.replace(plan, **{name: odd})
        if (name, year) == ("expires", 9999):
            check_usable(changed, CALLER, Policy(), NOW)
        else:
            with pytest.raises(SparekeyError, match=r"expired|in the future"):
                check_usable(changed, CALLER, Policy(), NOW)
