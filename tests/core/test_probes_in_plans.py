"""A plan says who would notice a breakage, and where policy requires somebody, holds the rest."""

from datetime import timedelta

import pytest

from sparekey.decision import NO_OVERRIDES, Overrides
from sparekey.errors import BadInputError
from sparekey.model import ACTIVE, AccessKey, Account, Caller, LastUsed, Snapshot, User
from sparekey.plan import Plan, decode, encode
from sparekey.planner import make_plan
from sparekey.policy import parse_policy
from support.strategies import NOW

ACCOUNT = "111122223333"
PROBE = '[[probes]]\nkind = "command"\nname = "web"\nuser = "web-*"\nargv = ["true"]\n'


def plan(policy: str, asked: Overrides = NO_OVERRIDES, quarantine: tuple[str, ...] = ()) -> Plan:
    users = tuple(
        User(
            name,
            f"arn:aws:iam::{ACCOUNT}:user/{name}",
            (
                AccessKey(f"AKIA{name}-OLD", ACTIVE, NOW - timedelta(days=400), LastUsed("never")),
                AccessKey(
                    f"AKIA{name}-NEW",
                    ACTIVE,
                    NOW - timedelta(days=30),
                    LastUsed("used", NOW - timedelta(days=1), "s3", "us-east-1"),
                ),
            ),
            quarantine=quarantine,
        )
        for name in ("batch", "web-shop")
    )
    account = Account(id=ACCOUNT, partition="aws", users=users, as_of=NOW)
    caller = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/ops")
    return make_plan(Snapshot(NOW, caller, (account,)), parse_policy(policy), NOW, overrides=asked)


def test_the_plan_says_for_how_many_users_nothing_notices_a_breakage() -> None:
    assert plan("").notes == ("no health probe covers 2 of 2 users; a breakage would not be detected",)
    assert plan(PROBE).notes == ("no health probe covers 1 of 2 users; a breakage would not be detected",)
    assert plan(PROBE.replace("web-*", "*")).notes == ()


def test_where_policy_requires_a_probe_a_user_without_one_is_held_whatever_is_forced() -> None:
    received = plan("require_probe = true\n" + PROBE)
    assert [(step.user, step.action, step.reason) for step in received.steps] == [
        ("batch", "held", "no-probe"),
        ("web-shop", "deactivate", "idle"),
    ]
    assert received.notes == ()
    forced = plan("require_probe = true\n" + PROBE, Overrides(force={"AKIAbatch-OLD": "gone"}))
    assert [(step.user, step.action) for step in forced.steps] == [
        ("batch", "held"),
        ("web-shop", "deactivate"),
    ]


def test_a_forced_key_that_a_probe_could_bring_back_is_pointed_out() -> None:
    key, force = "AKIAweb-shop-OLD", {"AKIAweb-shop-OLD": "stolen"}
    warning = (
        f"{key} of web-shop is forced, and an unhealthy probe reactivates it automatically: "
        "if it is compromised, plan with --never-reactivate"
    )
    assert warning in plan(PROBE, Overrides(force=force)).notes
    assert warning not in plan("", Overrides(force=force)).notes
    barred = plan(PROBE, Overrides(force=force, never_reactivate=(key,)))
    assert warning not in barred.notes
    assert {step.key: step.never_reactivate for step in barred.steps} == {
        "AKIAbatch-OLD": "",
        key: "--never-reactivate",
    }
    assert decode(encode(barred)) == barred


def test_a_forced_key_of_a_quarantined_user_stays_inactive_unless_a_person_undoes_it() -> None:
    key = "AKIAweb-shop-OLD"
    made = plan(PROBE, Overrides(force={key: "leaked"}), ("AWSCompromisedKeyQuarantineV3",))
    (step,) = made.deactivations
    assert (step.key, step.never_reactivate) == (
        key,
        "AWS has quarantined the user for a leaked key (AWSCompromisedKeyQuarantineV3)",
    )
    assert not any("reactivates it automatically" in note for note in made.notes)


def test_policy_says_whose_keys_only_a_person_brings_back() -> None:
    received = plan(PROBE + '[[never_reactivate]]\nuser = "web-*"\n')
    assert [step.never_reactivate for step in received.steps] == ["", "policy: [[never_reactivate]] 'web-*'"]
    held = plan('require_probe = true\n[[never_reactivate]]\nuser = "*"\n')
    assert {step.never_reactivate for step in held.steps} == {""}


def test_only_a_forced_key_can_be_named() -> None:
    with pytest.raises(BadInputError, match="--never-reactivate names AKIAweb-shop-OLD"):
        plan("", Overrides(never_reactivate=("AKIAweb-shop-OLD",)))
