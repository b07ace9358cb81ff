"""Plans that were edited and given a new digest: whatever stands in them, no key goes that must not."""

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.app.override import describe_overrides, unconfirmed_error, unrepeated_overrides
from sparekey.decision import NO_OVERRIDES, Overrides
from sparekey.errors import RefusedError, SparekeyError
from sparekey.guards import Limits, refusals
from sparekey.model import Caller, Consumer, ServiceUse, Usage
from sparekey.plan import LIFETIME, Plan, check_usable, decode, encode, seal
from sparekey.planner import make_plan
from sparekey.policy import Exemption, Policy, Rotator
from sparekey.revalidation import rebuild_plan, users_of, with_key_counts
from support.clocks import NOW, VirtualClock
from support.fake_aws import ACCOUNT, FakeAws, key, snapshot, used
from support.virtual_engine import VirtualQueue

ELSEWHERE = "444455556666"
OPS = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ops", frozenset({"ops"}), frozenset({"AKIAOPSNEW"}))
POLICY = Policy(
    exempt=(
        Exemption(user="exempt", owner="team-a", reason="moves", expires=(NOW + timedelta(days=9)).date()),
    ),
    rotators=(Rotator(user="vault", tool="Vault"),),
)
LIMITS = Limits(max_keys=4)


def company() -> FakeAws:
    """A caller, an exempt user, one that a rotator has, keys in use, and five keys that can be deactivated."""
    aws = FakeAws(VirtualClock())
    for name in ("ops", "exempt", "vault", "idle", "late"):
        aws.add(
            name, key(f"AKIA{name.upper()}OLD", 400, used(80)), key(f"AKIA{name.upper()}NEW", 30, used(1))
        )
    aws.add("busy", key("AKIABUSYOLD", 400, used(20)), key("AKIABUSYNEW", 30, used(1)))
    aws.add("batch", key("AKIABATCH1", 300), key("AKIABATCH2", 200, used(99)), key("AKIABATCH3", 20, used(2)))
    aws.add("one", key("AKIAONE", 300))
    aws.add("idle", key("AKIAIDLE2OLD", 400), key("AKIAIDLE2NEW", 30, used(1)), account=ELSEWHERE)
    return aws


def usage(name: str, last: float, first: float = 0) -> Usage:
    """A usage that shows one application, first and last seen so many days ago."""
    when, begun = NOW - timedelta(days=last), NOW - timedelta(days=first or last)
    use = ServiceUse("s3", "eu-central-1", ("GetObject",), 5, 0, begun, when, timedelta(0), own_last=when)
    consumer = Consumer("aws-cli", "10.0.0.1", (use,))
    return Usage(name, "history", None, NOW, 5, 0, 0, (consumer,), begun, when)


MOVED = (usage("AKIABUSYOLD", 20), usage("AKIABUSYNEW", 1, first=19.9))


def honest(aws: FakeAws, asked: Overrides = NO_OVERRIDES) -> Plan:
    usages = (usage("AKIABUSYOLD", 20), usage("AKIABUSYNEW", 30))  # not seen on the new key since
    return make_plan(snapshot(aws, OPS), POLICY, aws.clock.now(), overrides=asked, usages=usages)


def forged(plan: Plan, edit: Callable[[dict[str, Any]], None]) -> Plan:
    """The plan after its file was edited and given a new digest."""
    document = json.loads(encode(plan))
    edit(document)
    return seal(msgspec.convert(document, Plan))


def apply(aws: FakeAws, plan: Plan, repeated: Overrides = NO_OVERRIDES) -> dict[str, str]:
    """Apply a plan that this state did not make, as the preflight and a run do; the state of each step."""
    check_usable(plan, OPS, POLICY, aws.clock.now())
    refusals(plan, OPS, LIMITS)
    counts = {
        account: sum(len(keys) for (of, _), keys in aws.users.items() if of == account)
        for account in (ACCOUNT, ELSEWHERE)
    }
    refusals(with_key_counts(plan, counts), OPS, LIMITS)
    again = rebuild_plan(plan, snapshot(aws, OPS), POLICY, aws.clock.now(), counts=counts)
    refusals(again, OPS, LIMITS)
    if open_questions := unrepeated_overrides(plan.overrides, repeated):
        raise unconfirmed_error(open_questions)
    return carry(aws, again)


def carry(aws: FakeAws, plan: Plan) -> dict[str, str]:
    engine = VirtualQueue(aws, caller=OPS)
    run = engine.open(plan, policy=POLICY)
    engine.run()
    return {step.key: f"{step.state}: {step.decided}" for step in engine.record(run).steps}


def inactive(aws: FakeAws) -> set[str]:
    return {key.id for keys in aws.users.values() for key in keys if key.status != "Active"}


MAY_GO = {step.key for step in honest(company()).deactivations}


def test_an_honest_plan_that_this_state_did_not_make_is_carried_out() -> None:
    aws = company()
    plan = forged(honest(aws), lambda document: document["steps"].pop())
    assert {"AKIAIDLEOLD", "AKIALATEOLD", "AKIABATCH1", "AKIABATCH2", "AKIAIDLE2OLD"} == MAY_GO
    states = apply(aws, plan)
    assert inactive(aws) == {step.key for step in plan.deactivations}
    assert all(states[name].startswith("unwatched: [idle] not used for 45 days") for name in inactive(aws))


def _step(of: str, keep: str, **changes: object) -> Callable[[dict[str, Any]], None]:
    """An edit: one more step, for this key, copied from an honest one."""

    def edit(document: dict[str, Any]) -> None:
        user = next(user for (_, user), keys in company().users.items() if any(k.id == of for k in keys))
        honest_one = next(step for step in document["steps"] if step["user"] == "idle")
        step = copy.deepcopy(honest_one) | {"user": user, "key": of, "keep": keep, "account": ACCOUNT}
        step["preconditions"] = {
            "arn": f"arn:aws:iam::{ACCOUNT}:user/{user}",
            "statuses": {of: "Active", keep: "Active"},
            "last_used": {of: NOW.isoformat(), keep: NOW.isoformat()},
        }
        document["steps"] = [step | changes]
        document["exempt"] = []

    return edit


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (_step("AKIAEXEMPTOLD", "AKIAEXEMPTNEW"), "[exempt] policy exempts this user until"),
        (_step("AKIAVAULTOLD", "AKIAVAULTNEW"), "[rotator]"),
        (_step("AKIABUSYOLD", "AKIABUSYNEW"), "[usage-unbound] no usage of AKIABUSYOLD was read"),
        (_step("AKIABUSYNEW", "AKIABUSYOLD"), "[changed] decided again, this key is kept"),
        (
            _step("AKIAONE", "AKIAONE2"),
            "[changed] decided again, this key is kept, or is the user's only",
        ),
        (_step("AKIAIDLEOLD", "AKIALATENEW"), "[changed] decided again, AKIAIDLENEW is kept: [idle]"),
        (_step("AKIAIDLEOLD", "AKIAIDLENEW", reason="cutover"), "[changed] decided again"),
        (_step("AKIAIDLEOLD", "AKIAIDLENEW", action="held"), "[changed] the plan holds this key"),
    ],
)
def test_a_forged_step_is_held_and_the_reason_is_ours(
    edit: Callable[[dict[str, Any]], None], why: str
) -> None:
    aws = company()
    states = apply(aws, forged(honest(aws), edit))
    assert inactive(aws) == set()
    assert [why in state for state in states.values()] == [True], states


def test_a_step_that_names_a_key_of_the_callers_is_refused() -> None:
    aws = company()
    with pytest.raises(RefusedError, match="behind the credentials that sparekey runs with"):
        apply(aws, forged(honest(aws), _step("AKIAIDLEOLD", "AKIAOPSNEW")))
    assert inactive(aws) == set()


def test_users_that_are_gone_or_unknown_are_held() -> None:
    aws = company()
    plan = honest(aws)
    del aws.users[ACCOUNT, "idle"]
    aws.users[ACCOUNT, "late"].pop(0)
    again = rebuild_plan(plan, snapshot(aws, OPS), POLICY, NOW)
    why = {step.key: (step.action, step.reason, step.why) for step in again.steps}
    assert why["AKIAIDLEOLD"] == ("held", "changed", "the user no longer exists")
    assert why["AKIALATEOLD"] == ("held", "changed", "the user has no such active key")


def test_the_reasons_shown_are_those_of_now() -> None:
    def edit(document: dict[str, Any]) -> None:
        for step in document["steps"]:
            step["why"] = step["release"] = "LIE"
            step["evidence"] = [{"source": "LIE", "fact": "LIE", "key": "LIE", "at": None}]
        document["notes"] = ["LIE"]
        document["accounts"][0] |= {"alias": "LIE", "active_keys": 10**6}
        document["exempt"] = [
            {"account": ACCOUNT, "user": "exempt", "owner": "LIE", "reason": "LIE", "expires": "2099-01-01"},
            {"account": ACCOUNT, "user": "LIE", "owner": "LIE", "reason": "LIE", "expires": "2099-01-01"},
        ]

    aws = company()
    again = rebuild_plan(forged(honest(aws), edit), snapshot(aws, OPS), POLICY, NOW)
    assert b"LIE" not in encode(again)
    assert [(entry.user, entry.owner) for entry in again.exempt] == [("exempt", "team-a")]
    assert again.accounts[0].active_keys == 16


def test_usages_in_a_file_release_nothing() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["usages"] = msgspec.to_builtins(MOVED)
        _step("AKIABUSYOLD", "AKIABUSYNEW", reason="cutover")(document)

    aws = company()
    plan = forged(honest(aws), edit)
    released = rebuild_plan(plan, snapshot(aws, OPS), POLICY, NOW, MOVED)
    assert [(step.key, step.reason) for step in released.deactivations] == [("AKIABUSYOLD", "cutover")]
    states = apply(aws, plan)
    assert "[usage-unbound]" in states["AKIABUSYOLD"]
    assert inactive(aws) == set()


def test_overrides_are_named_with_what_aws_says() -> None:
    asked = Overrides(("AKIALATENEW",), {"AKIABUSYOLD": "retired", "AKIAEXEMPTOLD": "too"}, keep_old=True)
    plan = honest(company(), asked)
    received = describe_overrides(plan, POLICY, NOW)
    assert received[0].startswith(
        f"--force AKIABUSYOLD (user busy in account {ACCOUNT}; last used 20 days ago for s3"
    )
    assert received[0].endswith("): retired")
    assert "; policy exempts this user until" in received[1]
    assert received[2:] == (
        f"--keep AKIALATENEW (user late in account {ACCOUNT})",
        "--keep-old: a kept key may be older than 90 days",
    )
    assert unrepeated_overrides(asked, NO_OVERRIDES) == (
        "--force AKIABUSYOLD",
        "--force AKIAEXEMPTOLD",
        "--keep AKIALATENEW",
        "--keep-old",
    )
    assert unrepeated_overrides(asked, asked) == ()
    with pytest.raises(SparekeyError, match="--force AKIAONE: the plan has no such override"):
        unrepeated_overrides(asked, Overrides(force={"AKIAONE": ""}))


KEYS = sorted(key.id for keys in company().users.values() for key in keys)
PAIRS = [(keys[0].id, keys[-1].id) for _, keys in sorted(company().users.items()) if len(keys) > 1]
USERS = sorted({user for _, user in company().users})
TIMES = st.sampled_from(
    [(NOW + timedelta(days=days)).isoformat() for days in (-4000, -400, -2, -1, 0, 1, 400)]
    + ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
ids, names = st.sampled_from([*KEYS, "AKIANOBODY", ""]), st.sampled_from([*USERS, "nobody", ""])
accounts = st.sampled_from([ACCOUNT, ELSEWHERE, "999999999999", ""])
texts = st.sampled_from(["", "not used for 45 days; it is in use", "\x1b[2J", "forced: x"])
Edit = Callable[[dict[str, Any]], None]


@st.composite
def edits(draw: st.DrawFn, *, overrides: bool = True, usages: bool = True) -> Edit:  # noqa: C901  # one flat list
    """One edit of a plan's document: of a step, of what it says of accounts, of the time, of what was asked."""
    step_fields = {
        "key": ids, "keep": ids, "user": names, "account": accounts, "why": texts,
        "action": st.sampled_from(["deactivate", "held"]),
        "reason": st.sampled_from(["idle", "cutover", "forced", "held", ""]),
    }  # fmt: skip
    kinds = [
        "step",
        "step",
        *["whole"] * 6,
        "twice",
        "drop",
        "statuses",
        "last_used",
        "count",
        "time",
        "exempt",
    ]
    kinds += ["force", "keep", "keep_old"] if overrides else []
    kinds += ["usages"] if usages else []
    kind = draw(st.sampled_from(kinds))
    name, other = draw(st.one_of(st.sampled_from(PAIRS), st.tuples(ids, ids)))
    number, why = draw(st.integers(0, 99)), draw(st.sampled_from(["idle", "cutover", "forced"]))
    field = draw(st.sampled_from(sorted(step_fields)))
    value, when, count = draw(step_fields[field]), draw(TIMES), draw(st.sampled_from([0, 1, 10**6]))

    def edit(document: dict[str, Any]) -> None:  # noqa: C901
        steps = document["steps"]
        step = steps[number % len(steps)] if steps else {}
        if kind == "step" and step:
            step[field] = value
        elif kind == "whole" and step:
            whole: dict[str, Any] = {"key": name, "keep": other, "action": "deactivate", "reason": why}
            owner = next(
                (of for of, keys in company().users.items() if any(k.id == name for k in keys)), None
            )
            if owner:
                arn = f"arn:aws:iam::{owner[0]}:user/{owner[1]}"
                whole |= {"account": owner[0], "user": owner[1]}
                whole["preconditions"] = {
                    "arn": arn, "statuses": {name: "Active", other: "Active"}, "last_used": {name: NOW.isoformat()},
                }  # fmt: skip
            steps[:] = [one for one in steps if one["key"] not in (name, other)]
            steps.append(copy.deepcopy(step) | whole)
            if usages and why == "cutover":
                document["usages"] = msgspec.to_builtins(MOVED)
        elif kind == "twice" and step:
            steps.append(copy.deepcopy(step))
        elif kind == "drop" and step:
            steps.remove(step)
        elif kind in ("statuses", "last_used") and step:
            step["preconditions"][kind][name] = "Active" if kind == "statuses" else when
        elif kind == "count":
            document["accounts"][number % len(document["accounts"])]["active_keys"] = count
        elif kind == "time":
            document["expires" if number % 2 else "generated"] = when
        elif kind == "exempt":
            document["exempt"] = []
        elif kind == "force":
            document["asked"]["force"][name] = "x"
        elif kind == "keep":
            document["asked"]["keep"].append(name)
        elif kind == "keep_old":
            document["asked"]["keep_old"] = True
        elif kind == "usages":
            document["usages"] = msgspec.to_builtins(MOVED)

    return edit


def _edited(plan: Plan, changes: list[Edit]) -> Plan | None:
    """The plan as decode gives it after these edits and a new digest; None where it is refused."""

    def all_of_them(document: dict[str, Any]) -> None:
        for change in changes:
            change(document)

    try:
        return decode(encode(forged(plan, all_of_them)))
    except (SparekeyError, msgspec.ValidationError):
        return None


@settings(max_examples=80, deadline=None)
@given(st.lists(edits(), min_size=1, max_size=6))
def test_no_edit_of_a_plan_makes_a_key_go_that_must_stay(changes: list[Edit]) -> None:
    aws = company()
    plan = _edited(honest(aws), changes)
    if plan is None:
        return
    try:
        apply(aws, plan)
    except SparekeyError:
        assert not inactive(aws)
        return
    named = {step.key for step in plan.deactivations}
    assert inactive(aws) <= MAY_GO & named
    assert len(inactive(aws)) <= 4


@settings(max_examples=40, deadline=None)
@given(st.lists(edits(), min_size=1, max_size=6))
def test_overrides_that_a_person_confirms_spare_the_caller_and_the_limits(changes: list[Edit]) -> None:
    aws = company()
    plan = _edited(honest(aws), changes)
    if plan is None:
        return
    try:
        apply(aws, plan, repeated=plan.overrides)
    except SparekeyError:
        assert not inactive(aws)
        return
    gone = inactive(aws)
    assert not gone & {"AKIAOPSOLD", "AKIAOPSNEW"}
    assert not gone & {"AKIABUSYOLD", "AKIABUSYNEW", "AKIAEXEMPTOLD", "AKIAEXEMPTNEW"} - set(
        plan.overrides.force
    )
    assert len(gone) <= 4
    assert all(any(key.status == "Active" for key in keys) for keys in aws.users.values())


@pytest.mark.parametrize(
    "edit",
    [
        _step("AKIAEXEMPTOLD", "AKIAEXEMPTNEW"),
        _step("AKIAVAULTOLD", "AKIAVAULTNEW"),
        _step("AKIABUSYOLD", "AKIABUSYNEW", reason="cutover"),
        _step("AKIAOPSOLD", "AKIAOPSNEW"),
        _step("AKIAONE", "AKIAIDLENEW"),
    ],
)
def test_the_run_itself_holds_a_forged_step(edit: Edit) -> None:
    aws = company()
    states = carry(aws, forged(honest(aws), edit))
    assert inactive(aws) == set()
    assert {state.partition(":")[0] for state in states.values()} == {"held"}


@settings(max_examples=15, deadline=None)
@given(st.lists(edits(overrides=False, usages=False), min_size=1, max_size=6))
def test_the_run_itself_believes_no_step(changes: list[Edit]) -> None:
    """Nothing but the choice just before a write stands between the plan of a run and AWS here."""
    aws = company()
    plan = _edited(honest(aws), changes)
    if plan is None:
        return
    carry(aws, plan)
    assert inactive(aws) <= MAY_GO & {step.key for step in plan.deactivations}


def test_an_end_far_away_keeps_no_plan_alive() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["generated"], document["expires"] = "2025-01-01T00:00:00Z", "2099-01-01T00:00:00Z"

    aws = company()
    with pytest.raises(SparekeyError, match=r"expired at 2025-01-02 00:00 UTC"):
        apply(aws, forged(honest(aws), edit))
    plan = honest(aws)
    check_usable(plan, OPS, POLICY, NOW + LIFETIME - timedelta(seconds=1))
    early = msgspec.structs.replace(plan, expires=NOW + timedelta(hours=1))
    with pytest.raises(SparekeyError, match=r"expired at 2026-03-02 10:00 UTC"):
        check_usable(early, OPS, POLICY, NOW + timedelta(hours=1))


def test_the_users_of_a_plan_are_those_of_its_steps() -> None:
    plan = honest(company())
    assert (ELSEWHERE, "idle") in users_of(plan)
    assert (ACCOUNT, "one") not in users_of(plan)
