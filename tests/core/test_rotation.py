"""Whose key a plan replaces, and what stands in the way."""

from datetime import UTC, datetime, timedelta

import pytest

from sparekey.decision import DecisionContext, Overrides
from sparekey.model import AccessKey, Caller, Evidence, LastUsed, Unreadable, User
from sparekey.policy import Policy, parse_policy
from sparekey.rotation import choose_or_rotate
from sparekey.selection import DeactivateKey, HeldKey, RotateKey

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ACCOUNT = "111122223333"
HANDOVER = '[[handover]]\nuser = "etl*"\nstore = "ssm:/etl"\ncopies = ["gitlab:acme/etl"]\n'
CALLER = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/r")


def key(
    id_: str, age: int, used: int | None = 1, *, service: str = "s3", status: str = "Active"
) -> AccessKey:
    last = (
        LastUsed("never")
        if used is None
        else LastUsed("used", NOW - timedelta(days=used), service, "eu-west-1")
    )
    return AccessKey(id_, status, NOW - timedelta(days=age), last)


def outcomes(
    *keys: AccessKey, policy: str = HANDOVER, caller: Caller = CALLER, name: str = "etl", **user: object
) -> tuple[object, ...]:
    context = DecisionContext(parse_policy(policy), NOW, caller, Overrides(rotate=True))
    listed = User(name, f"arn:aws:iam::{ACCOUNT}:user/{name}", keys, **user)  # type: ignore[arg-type]
    choice = choose_or_rotate(ACCOUNT, listed, context)
    return () if choice is None else choice.outcomes


def reasons(*keys: AccessKey, **more: object) -> dict[str, str]:
    return {item.key: item.reason for item in outcomes(*keys, **more)}  # type: ignore[arg-type, attr-defined]


def test_an_old_key_is_rotated_with_its_places_and_its_evidence() -> None:
    (step,) = outcomes(key("AKIAOLD", 400))
    assert isinstance(step, RotateKey)
    assert (step.key, step.store, step.copies) == ("AKIAOLD", "ssm:/etl", ("gitlab:acme/etl",))
    assert step.why == "400 days old; a new key is created and published in ssm:/etl"
    assert Evidence("policy: [[handover]]", "'etl*' is handed over by ssm:/etl", "AKIAOLD") in step.evidence


@pytest.mark.parametrize(("age", "rotates"), [(75, False), (76, True), (89, True), (90, True), (500, True)])
def test_a_key_is_rotated_before_it_is_too_old(age: int, rotates: bool) -> None:
    assert bool(outcomes(key("AKIA1", age))) == rotates


def test_a_user_with_a_young_key_is_chosen_as_ever() -> None:
    assert reasons(key("AKIANEW", 20), key("AKIAOLD", 400, 100)) == {"AKIAOLD": "idle"}


def test_nothing_is_rotated_unasked_or_where_policy_lets_the_key_be_old() -> None:
    context = DecisionContext(parse_policy(HANDOVER), NOW, CALLER)
    user = User("etl", "", (key("AKIAOLD", 400),))
    assert choose_or_rotate(ACCOUNT, user, context) is None
    exempt = HANDOVER + (
        '[[exempt]]\nuser = "etl"\nowner = "o"\nreason = "r"\nexpires = 2099-01-01\nrule = "old-key"\n'
    )
    assert outcomes(key("AKIAOLD", 400), policy=exempt) == ()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"policy": ""}, "no-handover"),
        ({"policy": HANDOVER + '[[rotators]]\nuser = "etl"\ntool = "Vault"\n'}, "rotator"),
        ({"policy": "require_probe = true\n" + HANDOVER}, "no-probe"),
        ({"caller": Caller(ACCOUNT, "", frozenset({(ACCOUNT, "etl")}))}, "caller"),
        ({"caller": Caller(ACCOUNT, "", suspects=frozenset({("*", "*")}), unknown=("x",))}, "caller-unknown"),
        ({"quarantine": ("AWSCompromisedKeyQuarantineV3",)}, "quarantined"),
        ({"quarantine": Unreadable("quarantine", "denied")}, "quarantine-unread"),
        ({"name": "ses-smtp-user.20260101", "policy": HANDOVER.replace("etl*", "*")}, "smtp-user"),
    ],
)
def test_what_stands_in_the_way_holds_the_key(more: dict[str, object], reason: str) -> None:
    (held,) = outcomes(key("AKIAOLD", 400), **more)  # type: ignore[arg-type]
    assert isinstance(held, HeldKey)
    assert held.reason == reason
    assert held.release


def test_a_key_whose_secret_may_be_a_mail_servers_password_is_held() -> None:
    assert reasons(key("AKIAOLD", 400, service="ses")) == {"AKIAOLD": "smtp"}


def test_a_last_use_that_was_not_read_holds_the_key() -> None:
    unread = AccessKey("AKIAOLD", "Active", NOW - timedelta(days=400), LastUsed("unreadable", why="denied"))
    assert reasons(unread) == {"AKIAOLD": "last-use-unread"}


def test_an_inactive_key_takes_the_place_of_a_new_one() -> None:
    (held,) = outcomes(key("AKIAOLD", 400), key("AKIAOFF", 500, status="Inactive"))
    assert isinstance(held, HeldKey)
    assert (held.key, held.reason) == ("AKIAOLD", "no-slot")
    assert "AKIAOFF is Inactive" in held.why
    assert "sparekey delete" in held.release


def test_of_two_old_keys_the_idle_one_is_deactivated_first_and_the_plan_says_what_follows() -> None:
    (step,) = outcomes(key("AKIAUSED", 200), key("AKIAIDLE", 400, 100))
    assert isinstance(step, DeactivateKey)
    assert (step.key, step.reason) == ("AKIAIDLE", "idle")
    assert step.why.endswith(
        "then `sparekey delete` frees its place, and `sparekey plan --rotate` replaces AKIAUSED"
    )


def test_two_old_keys_in_use_are_held_and_the_release_says_how_to_go_on() -> None:
    (held,) = outcomes(key("AKIAOLD1", 200), key("AKIAOLD2", 400))
    assert isinstance(held, HeldKey)
    assert (held.key, held.reason) == ("AKIAOLD2", "two-in-use")
    assert "--usage history" in held.release


def test_a_policy_whose_new_keys_would_be_too_old_at_once_is_refused() -> None:
    with pytest.raises(Exception, match="rotate_before"):
        parse_policy('max_key_age = "10d"\nrotate_before = "10d"\n')
    assert Policy().rotate_before < Policy().max_key_age
