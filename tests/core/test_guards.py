"""Each guard refuses its own violation, and an honest plan passes them all."""

from datetime import timedelta

import msgspec
import pytest

from sparekey.errors import BadInputError, RefusedError
from sparekey.guards import GUARDS, Limits, refusals
from sparekey.model import INACTIVE, AccessKey, Account, Caller, LastUsed, Snapshot, User
from sparekey.plan import Plan, PlannedAccount, Step
from sparekey.planner import make_plan
from sparekey.policy import Policy
from support.strategies import NOW

A, B = "111111111111", "222222222222"
ROLE = Caller(A, f"arn:aws:sts::{A}:assumed-role/ops/session")
WORKS = LastUsed("used", NOW - timedelta(days=1), "s3", "us-east-1")


def user(account: str, name: str) -> User:
    old = AccessKey(f"AKIA{account[0]}{name}OLD", "Active", NOW - timedelta(days=400), LastUsed("never"))
    new = AccessKey(f"AKIA{account[0]}{name}NEW", "Active", NOW - timedelta(days=30), WORKS)
    return User(name, f"arn:aws:iam::{account}:user/{name}", (old, new))


def honest(per_account: int = 2) -> Plan:
    """A plan that deactivates one key of each user of two accounts."""
    accounts = tuple(
        Account(number, "aws", tuple(user(number, f"u{i:03}") for i in range(per_account)), NOW)
        for number in (A, B)
    )
    plan = make_plan(Snapshot(NOW, ROLE, accounts), Policy(), NOW)
    assert len(plan.deactivations) == 2 * per_account
    return plan


def with_step(plan: Plan, index: int, **changes: object) -> Plan:
    steps = list(plan.steps)
    steps[index] = msgspec.structs.replace(steps[index], **changes)
    return msgspec.structs.replace(plan, steps=tuple(steps))


def status_of_kept(step: Step, status: str) -> object:
    statuses = {**step.preconditions.statuses, step.keep or "": status}
    return msgspec.structs.replace(step.preconditions, statuses=statuses)


def test_an_honest_plan_passes() -> None:
    refusals(honest(), ROLE, Limits())


@pytest.mark.parametrize("status", [INACTIVE, "Expired", "Suspended"])
def test_the_kept_key_must_be_active(status: str) -> None:
    plan = honest()
    plan = with_step(plan, 0, preconditions=status_of_kept(plan.steps[0], status))
    with pytest.raises(RefusedError, match="AKIA1u000OLD would be deactivated without an active key to keep"):
        refusals(plan, ROLE, Limits())


@pytest.mark.parametrize("keep", [None, "AKIAELSEWHERE"])
def test_there_must_be_a_key_of_this_user_to_stay(keep: str | None) -> None:
    with pytest.raises(RefusedError, match="without an active key to keep"):
        refusals(with_step(honest(), 0, keep=keep), ROLE, Limits())


def test_no_key_both_stays_and_goes() -> None:
    plan = honest()
    first = plan.steps[0]
    back = msgspec.structs.replace(first, key=first.keep, keep=first.key)
    plan = msgspec.structs.replace(plan, steps=(*plan.steps, back))
    with pytest.raises(RefusedError, match="AKIA1u000NEW would be both kept and deactivated"):
        refusals(plan, ROLE, Limits())


def test_a_key_that_keeps_itself_is_refused() -> None:
    plan = honest()
    with pytest.raises(RefusedError, match="would be both kept and deactivated"):
        refusals(with_step(plan, 0, keep=plan.steps[0].key), ROLE, Limits())


def test_each_key_stands_in_one_step() -> None:
    plan = honest()
    with pytest.raises(RefusedError, match="AKIA1u000OLD stands in 2 steps"):
        refusals(msgspec.structs.replace(plan, steps=(*plan.steps, plan.steps[0])), ROLE, Limits())


def test_no_account_that_was_not_read() -> None:
    plan = msgspec.structs.replace(honest(), accounts=(PlannedAccount(A, "aws", "", 4),))
    with pytest.raises(RefusedError, match=f"account {B}: the plan has steps for it"):
        refusals(plan, ROLE, Limits())


def test_the_limit_that_nobody_named_says_what_it_is_and_how_to_name_another() -> None:
    with pytest.raises(RefusedError, match="deactivates 52 of 104 active keys; at most 50 are allowed") as no:
        refusals(honest(per_account=26), ROLE, Limits())
    assert "(50 keys or 20%, whichever is more; --max-keys names another limit)" in no.value.message
    refusals(honest(per_account=25), ROLE, Limits())


@pytest.mark.parametrize(
    "caller",
    [
        Caller(A, f"arn:aws:iam::{A}:user/u000", frozenset({"u000"})),
        Caller(A, ROLE.arn, frozenset(), frozenset({"AKIA1u000OLD"})),
    ],
    ids=["user", "key"],
)
def test_never_the_callers_own(caller: Caller) -> None:
    with pytest.raises(RefusedError, match="111111111111/u000: AKIA1u000OLD is behind the credentials") as no:
        refusals(honest(), caller, Limits())
    assert B not in no.value.message


@pytest.mark.parametrize(
    ("limits", "fine"),
    [
        (Limits(max_keys=6), True),
        (Limits(max_keys=5), False),
        (Limits(max_share=0.5), True),
        (Limits(max_share=0.49), False),
        (Limits(max_keys=6, max_share=0.5), True),
        (Limits(max_keys=6, max_share=0.49), False),
        (Limits(max_keys=5, max_share=1), False),
        (Limits(max_keys=6, max_share=0), False),
        (Limits(max_keys=0, max_share=1), False),
    ],
)
def test_each_limit_that_is_named_binds(limits: Limits, fine: bool) -> None:
    plan = honest(per_account=3)
    if fine:
        refusals(plan, ROLE, limits)
        return
    with pytest.raises(RefusedError, match="deactivates 6 of 12 active keys; at most"):
        refusals(plan, ROLE, limits)


@pytest.mark.parametrize(
    ("limits", "fine"),
    [
        (Limits(account_keys=3), True),
        (Limits(account_keys=2), False),
        (Limits(account_share=0.5), True),
        (Limits(account_share=0.4), False),
        (Limits(account_keys=2, account_share=0.5), False),
        (Limits(account_keys=3, account_share=0.4), False),
        (Limits(account_keys=3, account_share=0.5), True),
        (Limits(account_keys=0), False),
    ],
)
def test_a_limit_for_each_account(limits: Limits, fine: bool) -> None:
    plan = honest(per_account=3)
    if fine:
        refusals(plan, ROLE, limits)
        return
    with pytest.raises(RefusedError) as no:
        refusals(plan, ROLE, limits)
    assert f"account {A}: 3 of 6 active keys" in no.value.message
    assert f"account {B}: 3 of 6 active keys" in no.value.message


@pytest.mark.parametrize(("read", "allowed"), [(4, 50), (249, 50), (250, 50), (255, 51), (10_000, 2_000)])
def test_the_defaults_are_50_keys_or_a_fifth_whichever_is_more(read: int, allowed: int) -> None:
    assert Limits().allowed(read) == allowed
    assert Limits().allowed_in_account(read) is None


def test_a_share_is_counted_in_whole_keys() -> None:
    assert Limits(max_share=0.29).allowed(100) == 29
    assert Limits(max_share=0.2).allowed(4) == 0


@pytest.mark.parametrize("share", [float("nan"), -0.1, 1.1, float("inf")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(BadInputError, match="--max-share"):
        Limits(max_share=share)
    with pytest.raises(BadInputError, match="--max-account-share"):
        Limits(account_share=share)


@pytest.mark.parametrize(
    ("limits", "going", "needed"),
    [
        (Limits(), 50, False),
        (Limits(), 51, True),
        (Limits(max_keys=9), 51, False),
        (Limits(max_share=0.5), 1, True),
        (Limits(account_keys=1), 1, False),
        (Limits(account_share=0.5), 1, True),
    ],
)
def test_when_the_number_of_active_keys_matters(limits: Limits, going: int, needed: bool) -> None:
    assert limits.needs_key_counts(going) is needed


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws-cn:iam::{A}:user/u000",
        f"arn:aws:iam::{B}:user/u000",
        f"arn:aws:iam::{A}:user/u001",
        f"arn:aws:iam::{A}:role/u000",
        f"arn:aws:sts::{A}:user/u000",
        "",
    ],
)
def test_each_user_is_one_of_the_account_and_partition(arn: str) -> None:
    plan = honest()
    changed = msgspec.structs.replace(plan.steps[0].preconditions, arn=arn)
    with pytest.raises(RefusedError, match="is not the ARN of this user"):
        refusals(with_step(plan, 0, preconditions=changed), ROLE, Limits())


def test_an_account_named_twice_counts_no_key_twice() -> None:
    plan = honest()
    with pytest.raises(RefusedError, match=f"account {A}: the plan names it 2 times"):
        refusals(msgspec.structs.replace(plan, accounts=(*plan.accounts, plan.accounts[0])), ROLE, Limits())


def test_many_refusals_of_one_guard_stay_one_sentence() -> None:
    plan = honest(per_account=20)
    for index in range(40):
        plan = with_step(plan, index, keep=None)
    with pytest.raises(RefusedError) as no:
        refusals(plan, ROLE, Limits())
    assert no.value.message.count("without an active key") == 5
    assert no.value.message.endswith("and 35 more like it")


def test_every_refusal_is_said() -> None:
    plan = honest(per_account=3)
    plan = with_step(plan, 0, keep=None)
    with pytest.raises(RefusedError) as no:
        refusals(plan, ROLE, Limits(max_keys=1))
    assert "without an active key" in no.value.message
    assert "at most 1 are allowed" in no.value.message
    assert "Nothing was changed" in no.value.hint


def test_held_steps_are_not_guarded() -> None:
    """Nothing is written for them: a key that is held may be the caller's, or stand without a key to stay."""
    plan = honest()
    for index in range(len(plan.steps)):
        plan = with_step(plan, index, action="held", keep=None)
    refusals(plan, Caller(A, ROLE.arn, frozenset({"u000"})), Limits(max_keys=0, account_keys=0))


def test_each_guard_says_what_it_guards() -> None:
    assert all(guard.__doc__ for guard in GUARDS)
