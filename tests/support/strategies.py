"""Hypothesis strategies for what was read and asked; ages sit on and beside every threshold."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import strategies as st

from sparekey.decision import Overrides
from sparekey.model import (
    ACTIVE,
    INACTIVE,
    NEVER_USED,
    NOT_READ,
    AccessKey,
    Account,
    Caller,
    LastUsed,
    Snapshot,
    Unreadable,
    User,
)
from sparekey.policy import Policy, Rotator

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACCOUNTS = ("111111111111", "222222222222")
NAMES = ("alice", "alice2", "Alice", "svc-a", "svc-ab", "ses-smtp-user.1", "vault-x", "me")
DENIED = Unreadable("access keys", "AccessDenied: not allowed", "AccessDenied")

_MINUTE = timedelta(minutes=1)
_EDGES = [
    timedelta(days=days) + side
    for days in (0, 1, 7, 31, 45, 90, 400)
    for side in (-_MINUTE, timedelta(0), _MINUTE)
]

ages = st.sampled_from(_EDGES)
uses = st.builds(
    lambda age, service: LastUsed("used", NOW - age, service, "us-east-1"),
    ages,
    st.sampled_from(["s3", "s3", "ec2", "sts", "ses", None]),
)
read_uses = st.one_of(uses, uses, st.just(NEVER_USED))
UNDATED = LastUsed("used", None, "s3", "us-east-1")
UNREAD = (NOT_READ, LastUsed("unreadable", why="AccessDenied: not allowed"), UNDATED)
unread_uses = st.sampled_from(UNREAD)
last_uses = st.integers(0, 9).flatmap(lambda n: unread_uses if n == 0 else read_uses)
statuses = st.sampled_from([*[ACTIVE] * 9, INACTIVE, INACTIVE, "Expired", "Suspended"])
policies = st.sampled_from([Policy(), Policy(rotators=(Rotator(user="vault-*", tool="Vault"),))])


quarantines: st.SearchStrategy[tuple[str, ...] | Unreadable] = st.sampled_from(
    [*[()] * 12, ("AWSCompromisedKeyQuarantineV2",), DENIED]
)


def key_id(number: int) -> str:
    """A key id that names nobody's key."""
    return f"AKIA{number:016d}"


@st.composite
def snapshots(draw: st.DrawFn, last_uses: st.SearchStrategy[LastUsed] = last_uses) -> Snapshot:
    """A snapshot of one or two accounts that share user names; key ids are unique."""
    count = 0
    accounts = []
    for account in ACCOUNTS[: draw(st.integers(1, 2))]:
        users = []
        for name in sorted(draw(st.sets(st.sampled_from(NAMES), max_size=4))):
            keys = []
            for _ in range(draw(st.sampled_from([0, 1, 2, 2, 2, 3, 4]))):
                count += 1
                created = NOW - draw(ages)
                last = draw(last_uses)
                if last.at and last.at < created and draw(st.integers(0, 9)):
                    last = msgspec.structs.replace(last, at=created)  # mostly a use of the key's own life
                keys.append(AccessKey(key_id(count), draw(statuses), created, last))
            unreadable = draw(st.integers(0, 19)) == 0
            arn = f"arn:aws:iam::{account}:user/{name}"
            received = DENIED if unreadable else tuple(keys)
            users.append(User(name, arn, received, quarantine=draw(quarantines)))
        listed = DENIED if draw(st.integers(0, 19)) == 0 else tuple(users)
        accounts.append(Account(account, "aws", listed, NOW))
    return Snapshot(NOW, draw(callers(count)), tuple(accounts))


def callers(keys: int) -> st.SearchStrategy[Caller]:
    """A role, a user of the first account, or a role behind which one of the keys stands."""
    account = ACCOUNTS[0]
    role = f"arn:aws:sts::{account}:assumed-role/ops/session"
    return st.sampled_from(
        [
            Caller(account, role),
            Caller(account, f"arn:aws:iam::{account}:user/me", frozenset({"me"})),
            Caller(account, role, frozenset(), frozenset({key_id(max(1, keys))})),
        ]
    )


def spare_keys(snapshot: Snapshot) -> list[str]:
    """The ids of all active keys of users who have more than one."""
    return [
        key.id
        for _, user in snapshot.users()
        if len(user.active_keys) > 1
        for key in user.active_keys
        if key.id is not None
    ]


@st.composite
def overrides(draw: st.DrawFn, snapshot: Snapshot) -> Overrides:
    """What a person may have asked of this snapshot: keys that stay and keys that are forced, never both."""
    spare = spare_keys(snapshot)
    named = draw(st.lists(st.sampled_from(spare), unique=True, max_size=4)) if spare else []
    cut = draw(st.integers(0, len(named)))
    return Overrides(tuple(named[:cut]), dict.fromkeys(named[cut:], "the owner left"), draw(st.booleans()))


@st.composite
def decisions(
    draw: st.DrawFn, last_uses: st.SearchStrategy[LastUsed] = last_uses
) -> tuple[Snapshot, Policy, Overrides]:
    """A snapshot, a policy and something asked."""
    snapshot = draw(snapshots(last_uses))
    return snapshot, draw(policies), draw(overrides(snapshot))
