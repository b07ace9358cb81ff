"""What holds of every plan, whatever was read and asked."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey import plan as plans
from sparekey.decision import NO_OVERRIDES, DecisionContext, Overrides
from sparekey.guards import Limits, refusals
from sparekey.model import ACTIVE, INACTIVE, AccessKey, Consumer, ServiceUse, Snapshot, Unreadable, Usage
from sparekey.plan import Plan, PlanError
from sparekey.planner import assemble, decide_users, decide_with_usages, make_plan, needs_usage
from sparekey.policy import Policy
from support.strategies import NOW, UNREAD, decisions, read_uses, snapshots, unread_uses

settings.register_profile("core", max_examples=150, deadline=None)
CORE = settings.get_profile("core")
T = TypeVar("T")


def with_keys(snapshot: Snapshot, change: Callable[[str, str, AccessKey], AccessKey]) -> Snapshot:
    """The snapshot with every listed key changed."""
    accounts = []
    for account in snapshot.accounts:
        users = account.users
        if not isinstance(users, Unreadable):
            users = tuple(
                user
                if isinstance(user.keys, Unreadable)
                else msgspec.structs.replace(
                    user, keys=tuple(change(account.id, user.name, key) for key in user.keys)
                )
                for user in users
            )
        accounts.append(msgspec.structs.replace(account, users=users))
    return msgspec.structs.replace(snapshot, accounts=tuple(accounts))


def applied(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """What a listing shows once every deactivation is done."""
    gone = {(step.account, step.user, step.key) for step in plan.deactivations}

    def change(account: str, user: str, key: AccessKey) -> AccessKey:
        return msgspec.structs.replace(key, status=INACTIVE) if (account, user, key.id) in gone else key

    return with_keys(snapshot, change)


def shuffled(snapshot: Snapshot, random: Random) -> Snapshot:
    """The same snapshot, read in another order."""

    def mix(values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(random.sample(values, len(values)))

    accounts = []
    for account in snapshot.accounts:
        users = account.users
        if not isinstance(users, Unreadable):
            users = mix(
                tuple(
                    user
                    if isinstance(user.keys, Unreadable)
                    else msgspec.structs.replace(user, keys=mix(user.keys))
                    for user in users
                )
            )
        accounts.append(msgspec.structs.replace(account, users=users))
    return msgspec.structs.replace(snapshot, accounts=mix(tuple(accounts)))


def going(plan: Plan) -> set[tuple[str, str, str]]:
    return {(step.account, step.user, step.key) for step in plan.deactivations}


@CORE
@given(decisions())
def test_no_plan_leaves_a_user_without_an_active_key(situation: tuple[Snapshot, Policy, Overrides]) -> None:
    snapshot, policy, asked = situation
    plan = make_plan(snapshot, policy, NOW, overrides=asked)
    after = applied(snapshot, plan)
    touched = {(step.account, step.user) for step in plan.deactivations}
    for account, user in after.users():
        if (account.id, user.name) in touched:
            assert any(key.status == ACTIVE for key in user.active_keys)
    for step in plan.deactivations:
        assert step.preconditions.statuses[step.key] == ACTIVE
        assert step.keep is not None
        assert step.preconditions.statuses[step.keep] == ACTIVE
        assert step.key not in snapshot.caller.keys
    refusals(plan, snapshot.caller, Limits())


@CORE
@given(decisions())
def test_every_spare_key_is_kept_or_has_one_step(situation: tuple[Snapshot, Policy, Overrides]) -> None:
    snapshot, policy, asked = situation
    plan = make_plan(snapshot, policy, NOW, overrides=asked)
    result = [(step.account, step.user, step.key) for step in plan.steps]
    assert len(result) == len(set(result))
    assert result == sorted(result)
    for account, user in snapshot.users():
        mine = [step for step in plan.steps if (step.account, step.user) == (account.id, user.name)]
        active = {key.id for key in user.active_keys}
        if len(active) < 2:
            assert not mine
            continue
        assert len({step.keep for step in mine}) == 1
        assert {step.key for step in mine} | ({mine[0].keep} - {None}) == active
    for step in plan.held:
        assert step.why
        assert step.release


@CORE
@given(decisions(), st.booleans())
def test_planning_again_after_applying_deactivates_nothing(
    situation: tuple[Snapshot, Policy, Overrides], keep_old: bool
) -> None:
    snapshot, policy, _ = situation
    asked = Overrides(keep_old=keep_old)
    first = make_plan(snapshot, policy, NOW, overrides=asked)
    again = make_plan(applied(snapshot, first), policy, NOW, overrides=asked)
    assert again.deactivations == ()
    assert len(again.held) == len(first.held)


@CORE
@given(decisions(), st.randoms(use_true_random=False))
def test_the_order_of_reading_does_not_matter(
    situation: tuple[Snapshot, Policy, Overrides], random: Random
) -> None:
    snapshot, policy, asked = situation
    plan = make_plan(snapshot, policy, NOW, overrides=asked)
    assert make_plan(shuffled(snapshot, random), policy, NOW, overrides=asked) == plan


@CORE
@given(decisions())
def test_nothing_goes_where_a_last_use_is_unread_or_a_key_may_be_leaked(
    situation: tuple[Snapshot, Policy, Overrides],
) -> None:
    snapshot, policy, asked = situation
    plan = make_plan(snapshot, policy, NOW, overrides=asked)
    unread = {
        (account.id, user.name)
        for account, user in snapshot.users()
        if user.quarantine or any(key.last_used in UNREAD for key in user.active_keys)
    }
    for step in plan.deactivations:
        assert (step.account, step.user) not in unread or step.reason == "forced"


@CORE
@given(decisions(read_uses), st.data())
def test_absence_of_evidence_never_authorises(
    situation: tuple[Snapshot, Policy, Overrides], data: st.DataObject
) -> None:
    snapshot, policy, asked = situation
    ids = [key.id for _, user in snapshot.users() for key in user.active_keys]
    lost = data.draw(st.dictionaries(st.sampled_from(ids), unread_uses)) if ids else {}

    def change(_account: str, _user: str, key: AccessKey) -> AccessKey:
        return msgspec.structs.replace(key, last_used=lost[key.id]) if key.id in lost else key

    seen = make_plan(snapshot, policy, NOW, overrides=asked)
    blind = make_plan(with_keys(snapshot, change), policy, NOW, overrides=asked)
    assert going(blind) <= going(seen)


@CORE
@given(decisions())
def test_a_plan_survives_its_file(situation: tuple[Snapshot, Policy, Overrides]) -> None:
    snapshot, policy, asked = situation
    plan = make_plan(snapshot, policy, NOW, overrides=asked)
    content = plans.encode(plan)
    assert plans.decode(content) == plan
    assert plans.encode(plans.decode(content)) == content


@settings(CORE, max_examples=300)
@given(snapshots(), st.data())
def test_a_byte_that_was_edited_is_refused_or_changes_nothing(
    snapshot: Snapshot, data: st.DataObject
) -> None:
    plan = make_plan(snapshot, Policy(), NOW, overrides=NO_OVERRIDES)
    content = bytearray(plans.encode(plan))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = plans.decode(bytes(content))
    except PlanError:
        return
    assert read == plan


@CORE
@given(snapshots(), st.data())
def test_a_plan_that_was_cut_short_is_refused(snapshot: Snapshot, data: st.DataObject) -> None:
    content = plans.encode(make_plan(snapshot, Policy(), NOW)).rstrip()
    with pytest.raises(PlanError):
        plans.decode(content[: data.draw(st.integers(0, len(content) - 1))])


@CORE
@given(decisions(), st.data())
def test_usages_decide_alike_whether_read_before_or_between(
    situation: tuple[Snapshot, Policy, Overrides], data: st.DataObject
) -> None:
    """What is decided again once usages are read is all that they change."""
    snapshot, policy, asked = situation
    blind = DecisionContext(policy, NOW, snapshot.caller, asked)
    first = decide_users(snapshot, blind)
    contested = sorted({key.id or "" for one in first if needs_usage(one) for key in one.user.active_keys})
    usages = {key: used_by_an_application(key, data.draw(st.floats(0, 60))) for key in contested}
    context = msgspec.structs.replace(blind, usages=usages)
    assert assemble(snapshot, context, decide_with_usages(first, context)) == assemble(
        snapshot, context, decide_users(snapshot, context)
    )


def used_by_an_application(key: str, days_ago: float) -> Usage:
    at = NOW - timedelta(days=days_ago)
    use = ServiceUse("s3", "eu-central-1", ("GetObject",), 3, 0, at, at, timedelta(0), at)
    consumers = (Consumer("app", "10.0.0.1", (use,)),)
    return Usage(key, "archive", None, NOW, 3, 0, 0, consumers, at, at)
