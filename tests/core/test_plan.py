"""A plan's file and whether it may be used: edited, truncated, expired, foreign, of another version."""

import hashlib
from datetime import timedelta

import msgspec
import pytest

from sparekey.decision import Overrides
from sparekey.errors import RefusedError, SparekeyError
from sparekey.model import AccessKey, Account, Caller, LastUsed, Snapshot, Unreadable, Usage, User
from sparekey.plan import LIFETIME, Plan, PlanError, check_usable, decode, encode
from sparekey.planner import make_plan
from sparekey.policy import Policy, Span
from support.strategies import NOW

ACCOUNT = "111111111111"
ROLE = Caller(ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/ops/session")
WORKS = LastUsed("used", NOW - timedelta(days=1), "s3", "us-east-1")


def plan() -> Plan:
    keys = (
        AccessKey("AKIAOLD", "Active", NOW - timedelta(days=400), LastUsed("never")),
        AccessKey("AKIANEW", "Active", NOW - timedelta(days=30), WORKS),
        AccessKey("AKIAOFF", "Inactive", NOW - timedelta(days=500)),
    )
    user = User("alice", f"arn:aws:iam::{ACCOUNT}:user/alice", keys)
    return make_plan(Snapshot(NOW, ROLE, (Account(ACCOUNT, "aws", (user,), NOW),)), Policy(), NOW)


def signed(made: Plan, **changes: object) -> bytes:
    """A plan that somebody edited, with the digest made right again."""
    edited = msgspec.structs.replace(made, **{**changes, "digest": ""})
    digest = hashlib.sha256(msgspec.json.encode(edited, order="sorted")).hexdigest()
    return encode(msgspec.structs.replace(edited, digest=digest))


def test_a_step_carries_what_it_was_decided_on() -> None:
    (step,) = plan().steps
    assert step.preconditions.statuses == {"AKIANEW": "Active", "AKIAOFF": "Inactive", "AKIAOLD": "Active"}
    assert step.preconditions.last_used == {"AKIANEW": WORKS.at, "AKIAOLD": None}
    assert [(entry.source, entry.key) for entry in step.evidence] == [
        ("iam:ListAccessKeys", "AKIANEW"),
        ("iam:GetAccessKeyLastUsed", "AKIANEW"),
        ("iam:ListAccessKeys", "AKIAOLD"),
        ("iam:GetAccessKeyLastUsed", "AKIAOLD"),
    ]
    assert [entry.fact for entry in step.evidence] == [
        "Active, 30 days old",
        "last used 24 h ago for s3 in us-east-1",
        "Active, 400 days old",
        "never used",
    ]


def test_the_file_has_the_fields_that_were_promised() -> None:
    content = msgspec.json.decode(encode(plan()))
    assert {"schema", "digest", "generated", "expires", "caller", "policy_digest", "steps"} <= set(content)
    promised = {"account", "user", "keep", "key", "action", "reason", "why", "release", "evidence"}
    assert set(content["steps"][0]) == promised | {"preconditions", "never_reactivate", "store", "copies"}
    assert content["schema"] == "sparekey/plan/1"


def test_the_digest_is_over_everything() -> None:
    made = plan()
    for name in Plan.__struct_fields__:
        if name in ("schema", "digest"):
            continue
        other = {"steps": (), "accounts": (), "caller": "x", "policy_digest": "x"}.get(name)
        if other is None:
            continue
        edited = encode(msgspec.structs.replace(made, **{name: other}))
        with pytest.raises(PlanError, match="was edited"):
            decode(edited)


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b"", "not whole"),
        (b"{}", "not whole"),
        (b"[]", "not whole"),
        (b"not json", "not whole"),
        (b"\xff\xfe", "not whole"),
        (b'{"schema": "sparekey/plan/2"}', "sparekey/plan/2"),
        (b'{"schema": "sparekey/audit/1"}', "sparekey/audit/1"),
        (b'{"schema": "sparekey/plan/1"}', "another version"),
        (b'{"schema": "sparekey/plan/1", "more": "\xff"}', "another version"),
        (b'{"schema": "sparekey/plan/1", "steps": ' + b"[" * 200_000, "not whole"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(content: bytes, result: str) -> None:
    with pytest.raises(PlanError, match=result) as refusal:
        decode(content)
    assert refusal.value.hint
    assert refusal.value.exit_code == 1


def test_a_field_more_is_refused_even_with_a_right_digest() -> None:
    content = encode(plan()).replace(b'"schema"', b'"more": 1, "schema"', 1)
    with pytest.raises(PlanError, match="unknown field"):
        decode(content)


def test_a_plan_of_an_earlier_version_that_knew_fewer_fields_is_still_whole() -> None:
    """A run that was begun before an upgrade can be shown, undone and gone on with after it."""
    document = msgspec.json.decode(encode(plan())) | {"digest": ""}
    del document["exempt"]
    content = msgspec.json.encode(document, order="sorted")
    document["digest"] = hashlib.sha256(content).hexdigest()
    read = decode(msgspec.json.encode(document))
    assert read.digest == document["digest"]
    assert read.exempt == ()


def test_a_time_without_a_zone_is_refused() -> None:
    """Such a time can't be compared with ours; it would be a traceback later on."""
    naive = NOW.replace(tzinfo=None)
    usage = Usage("AKIAOLD", "history", naive, NOW, 0, 0, 0, ())
    with pytest.raises(PlanError, match="timezone"):
        decode(signed(plan(), usages=(usage,)))
    for name in ("generated", "expires"):
        with pytest.raises(PlanError, match="timezone"):
            decode(signed(plan(), **{name: naive}))


def test_usable_to_the_last_second() -> None:
    made = plan()
    check_usable(made, ROLE, Policy(), NOW)
    check_usable(made, ROLE, Policy(), NOW + LIFETIME - timedelta(seconds=1))
    with pytest.raises(PlanError, match="the plan expired at 2026-03-02 12:00 UTC"):
        check_usable(made, ROLE, Policy(), NOW + LIFETIME)


def test_not_usable_before_it_was_made() -> None:
    check_usable(plan(), ROLE, Policy(), NOW - timedelta(minutes=5))
    with pytest.raises(PlanError, match="check the clock"):
        check_usable(plan(), ROLE, Policy(), NOW - timedelta(minutes=6))


def test_not_usable_in_another_account() -> None:
    other = Caller("222222222222", "arn:aws:sts::222222222222:assumed-role/ops/session")
    with pytest.raises(RefusedError, match="made in 111111111111, these credentials belong to 222222222222"):
        check_usable(plan(), other, Policy(), NOW)


def test_usable_by_another_identity_of_the_account() -> None:
    check_usable(plan(), Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ops"), Policy(), NOW)


def test_not_usable_under_another_policy() -> None:
    with pytest.raises(PlanError, match="the policy is not the one"):
        check_usable(plan(), ROLE, Policy(settle=Span(days=8)), NOW)


def test_a_key_of_a_user_who_is_left_out_is_refused() -> None:
    keys = tuple(AccessKey(f"AKIA{n}", "Active", NOW - timedelta(days=9), WORKS) for n in range(2))
    user = User("alice", "arn:aws:iam::111111111111:user/alice", keys)
    snapshot = Snapshot(NOW, ROLE, (Account(ACCOUNT, "aws", (user,), NOW),))
    asked = Overrides(keep=("AKIA0",))
    assert make_plan(snapshot, Policy(), NOW, overrides=asked).steps
    assert make_plan(snapshot, Policy(), NOW, is_wanted=lambda _account, name: name != "alice").steps == ()
    with pytest.raises(SparekeyError, match="AKIA0 is not an active key"):
        make_plan(snapshot, Policy(), NOW, overrides=asked, is_wanted=lambda _account, name: name != "alice")


def test_what_a_usage_source_could_not_read_is_unread_in_the_plan() -> None:
    fault = Unreadable("day/x.json.gz", "not JSON")
    usages = tuple(
        Usage(key, "archive", NOW - timedelta(days=90), NOW, 0, 0, 0, (), unread=(fault,))
        for key in ("AKIAOLD", "AKIANEW")
    )
    keys = tuple(AccessKey(key, "Active", NOW - timedelta(days=30), WORKS) for key in ("AKIAOLD", "AKIANEW"))
    user = User("alice", f"arn:aws:iam::{ACCOUNT}:user/alice", keys)
    snapshot = Snapshot(NOW, ROLE, (Account(ACCOUNT, "aws", (user,), NOW),))
    assert make_plan(snapshot, Policy(), NOW, usages=usages).unread == (fault,)
