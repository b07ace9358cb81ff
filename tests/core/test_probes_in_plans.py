"""A plan says who would notice a breakage, and where policy requires somebody, holds the rest."""

from datetime import timedelta

from sparekey.choose import NOTHING_ASKED, Asked
from sparekey.model import ACTIVE, AccessKey, Account, Caller, LastUsed, Snapshot, User
from sparekey.plan import Plan, make
from sparekey.policy import parse_policy
from strategies import NOW

ACCOUNT = "111122223333"
PROBE = '[[probes]]\nkind = "command"\nname = "web"\nuser = "web-*"\nargv = ["true"]\n'


def plan(policy: str, asked: Asked = NOTHING_ASKED) -> Plan:
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
        )
        for name in ("batch", "web-shop")
    )
    account = Account(id=ACCOUNT, partition="aws", users=users, as_of=NOW)
    caller = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/ops")
    return make(Snapshot(NOW, caller, (account,)), parse_policy(policy), NOW, asked=asked)


def test_the_plan_says_for_how_many_users_nothing_notices_a_breakage() -> None:
    assert plan("").notes == ("nothing will notice a breakage for 2 of 2 users: no probe",)
    assert plan(PROBE).notes == ("nothing will notice a breakage for 1 of 2 users: no probe",)
    assert plan(PROBE.replace("web-*", "*")).notes == ()


def test_where_policy_requires_a_probe_a_user_without_one_is_held_whatever_is_forced() -> None:
    told = plan("require_probe = true\n" + PROBE)
    assert [(step.user, step.action, step.reason) for step in told.steps] == [
        ("batch", "held", "no-probe"),
        ("web-shop", "deactivate", "idle"),
    ]
    assert told.notes == ()
    forced = plan("require_probe = true\n" + PROBE, Asked(force={"AKIAbatch-OLD": "gone"}))
    assert [(step.user, step.action) for step in forced.steps] == [
        ("batch", "held"),
        ("web-shop", "deactivate"),
    ]
