"""A small AWS in memory and in virtual time: stale reads, faults and foreign writers on demand."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sparekey.aws.errors import DeniedError, NotFoundError
from sparekey.model import (
    NEVER_USED,
    AccessKey,
    Account,
    Caller,
    LastUsed,
    Snapshot,
    User,
)
from sparekey.plan import Plan
from sparekey.planner import make_plan
from sparekey.policy import Policy
from support.clocks import NOW, VirtualClock

ACCOUNT = "111122223333"
CALLER = Caller(ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/Admin/someone")


@dataclass
class FakeKey:
    id: str
    created: datetime
    status: str = "Active"
    last_used: LastUsed = NEVER_USED


@dataclass
class FakeAws:
    """The keys of users in one or more accounts, and every write that was accepted."""

    clock: VirtualClock
    users: dict[tuple[str, str], list[FakeKey]] = field(default_factory=dict)
    writes: list[tuple[str, str, str]] = field(default_factory=list)
    history: list[tuple[datetime, dict[tuple[str, str], dict[str, str]]]] = field(default_factory=list)
    stale: Callable[[], timedelta] = lambda: timedelta(0)
    # Called before and after each call acted, with its name; may raise.
    before: Callable[[str], None] = lambda _call: None
    after: Callable[[str], None] = lambda _call: None
    requests: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, user: str, *keys: FakeKey, account: str = ACCOUNT) -> None:
        self.users[account, user] = list(keys)

    def status(self, user: str, key: str, account: str = ACCOUNT) -> str:
        return next(found.status for found in self.users[account, user] if found.id == key)

    def statuses(self, user: str, account: str = ACCOUNT) -> dict[str, str]:
        return {key.id: key.status for key in self.users[account, user]}

    def set(self, user: str, key: str, status: str, account: str = ACCOUNT) -> None:
        """Change a key, as anybody may."""
        self.history.append((self.clock.now(), {user: self._statuses(*user) for user in self.users}))
        for found in self.users[account, user]:
            if found.id == key:
                found.status = status

    def rename(self, *pairs: tuple[str, str], account: str = ACCOUNT) -> None:
        """Give users other names, all at once, as anybody may; each keeps its keys."""
        moved = {new: self.users.pop((account, old)) for old, new in pairs}
        self.users |= {(account, new): keys for new, keys in moved.items()}

    def _statuses(self, account: str, user: str) -> dict[str, str]:
        return {key.id: key.status for key in self.users.get((account, user), ())}

    def seen(self, account: str, user: str) -> dict[str, str]:
        """The statuses that a listing shows: as of now, or as of a while ago."""
        when = self.clock.now() - self.stale()
        for changed, before in self.history:
            if changed > when:
                return before.get((account, user), {})
        return self._statuses(account, user)

    def gateway(self, account: str) -> "FakeGateway":
        return FakeGateway(self, account)


@dataclass
class FakeGateway:
    aws: FakeAws
    account: str

    def _keys(self, user: str) -> list[FakeKey]:
        if (self.account, user) not in self.aws.users:
            raise NotFoundError(f"not found: user {user}", code="NoSuchEntity")
        return self.aws.users[self.account, user]

    def list_users(self) -> Iterator[User]:
        for account, user in sorted(self.aws.users):
            if account == self.account:
                yield User(user, f"arn:aws:iam::{account}:user/{user}", ())

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        self.aws.before("list_keys")
        known = self._keys(user)
        seen = self.aws.seen(self.account, user)
        keys = tuple(AccessKey(k.id, seen.get(k.id, k.status), k.created) for k in known)
        self.aws.after("list_keys")
        return keys

    def last_used(self, key_id: str) -> LastUsed:
        self.aws.before("last_used")
        return next(k.last_used for keys in self.aws.users.values() for k in keys if k.id == key_id)

    def owner_of(self, key_id: str) -> str:
        """As AWS: a key that does not exist answers AccessDenied."""
        self.aws.before("last_used")
        for (account, user), keys in self.aws.users.items():
            if account == self.account and any(known.id == key_id for known in keys):
                return user
        raise DeniedError("access denied: iam:GetAccessKeyLastUsed", code="AccessDenied")

    def delete_key(self, user: str, key_id: str) -> str:
        self.aws.before("delete_key")
        known = self._keys(user)
        if not any(found.id == key_id for found in known):
            raise NotFoundError(f"not found: key {key_id}", code="NoSuchEntity")
        self.aws.users[self.account, user] = [found for found in known if found.id != key_id]
        self.aws.after("delete_key")
        return f"request-{next(self.aws.requests)}"

    def set_status(self, user: str, key_id: str, status: str) -> str:
        self.aws.before("set_status")
        if not any(key.id == key_id for key in self._keys(user)):
            raise NotFoundError(f"not found: key {key_id}", code="NoSuchEntity")
        self.aws.set(user, key_id, status, self.account)
        self.aws.writes.append((user, key_id, status))
        self.aws.after("set_status")
        return f"request-{next(self.aws.requests)}"


def used(days: float, service: str = "s3", now: datetime = NOW) -> LastUsed:
    return LastUsed("used", now - timedelta(days=days), service, "eu-central-1")


def key(name: str, age: float, last: LastUsed | None = None, status: str = "Active") -> FakeKey:
    return FakeKey(name, NOW - timedelta(days=age), status, last or LastUsed("never"))


def snapshot(aws: FakeAws, caller: Caller = CALLER) -> Snapshot:
    """What an audit would have read."""
    now = aws.clock.now()
    accounts = []
    for account in sorted({account for account, _ in aws.users}):
        users = tuple(
            User(
                user,
                f"arn:aws:iam::{account}:user/{user}",
                tuple(AccessKey(k.id, k.status, k.created, k.last_used) for k in keys),
            )
            for (owner, user), keys in sorted(aws.users.items())
            if owner == account
        )
        accounts.append(Account(account, "aws", users, now))
    return Snapshot(now, caller, tuple(accounts))


def plan_for(aws: FakeAws, policy: Policy | None = None) -> Plan:
    return make_plan(snapshot(aws), policy or Policy(), aws.clock.now())


def small_company(clock: VirtualClock | None = None) -> FakeAws:
    """A migrated app, a user with three keys, an idle pair."""
    aws = FakeAws(clock or VirtualClock())
    aws.add("api", key("AKIAAPIOLD", 400, used(80)), key("AKIAAPINEW", 30, used(1)))
    aws.add(
        "batch", key("AKIABATCH1", 300), key("AKIABATCH2", 200, used(100)), key("AKIABATCH3", 20, used(2))
    )
    aws.add("idle", key("AKIAIDLE1", 80), key("AKIAIDLE2", 60))
    return aws
