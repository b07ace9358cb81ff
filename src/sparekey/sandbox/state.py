"""The company's state: accounts, users, keys, sessions, and what has been called.

A key and a user know their own past, so that a stale replica is a question with an earlier time.
"""

import base64
import hashlib
import hmac
import random
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from sparekey.sandbox.clock import SandboxClock
from sparekey.sandbox.cloudtrail_events import EventLog
from sparekey.sandbox.errors import SandboxError
from sparekey.sandbox.identity import CallerPrincipal, IssuedSession
from sparekey.sandbox.scenario import Fault, OrganizationTable, ReportTable

if TYPE_CHECKING:
    from sparekey.sandbox.secretsmanager import StoredSecret
    from sparekey.sandbox.ssm import StoredParameter

EVER = datetime(1970, 1, 1, tzinfo=UTC)
GRANULARITY = timedelta(minutes=15)
GLOBAL_REGION = {
    "aws": "us-east-1",
    "aws-cn": "cn-north-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-eusc": "eusc-de-east-1",
}
# Services without regions: CloudTrail files their calls under the partition's first region, IAM's last use under none.
GLOBAL_SERVICES = frozenset({"cloudfront", "iam", "organizations", "route53"})


class LastUseRecord(msgspec.Struct, frozen=True):
    """A use of a key as IAM reports it."""

    at: datetime
    service: str
    region: str


class SandboxKey(msgspec.Struct, kw_only=True):
    """One access key; an empty `user` is the root user."""

    id: str
    secret: str
    account: str
    user: str
    created: datetime
    statuses: list[tuple[datetime, str]]
    rotated: datetime
    known_from: datetime = EVER
    deleted: datetime | None = None
    uses: list[LastUseRecord] = []

    def __repr__(self) -> str:
        return f"Key({self.id}, {self.status})"

    @property
    def status(self) -> str:
        """The status now."""
        return self.statuses[-1][1]

    @status.setter
    def status(self, value: str) -> None:
        """Set it for all times: how a test bends the past."""
        self.statuses = [(EVER, value)]

    def status_at(self, when: datetime) -> str:
        """The status that was true at a time."""
        return next(
            (status for since, status in reversed(self.statuses) if since <= when), self.statuses[0][1]
        )

    def exists_at(self, when: datetime) -> bool:
        """Whether the key was there at a time."""
        return self.known_from <= when and (self.deleted is None or when < self.deleted)

    def change(self, status: str, now: datetime) -> None:
        """Set the status from now on."""
        self.statuses.append((now, status))
        self.rotated = now.replace(microsecond=0)

    def used(self, now: datetime, service: str, region: str) -> None:
        """Note a use, if it is far enough past the last one noted."""
        if not self.uses or now - self.uses[-1].at >= GRANULARITY:
            region = "N/A" if service in GLOBAL_SERVICES else region
            self.uses = [*self.uses[-3:], LastUseRecord(now.replace(microsecond=0), service, region)]

    def last_used(self, until: datetime) -> LastUseRecord | None:
        """The last use noted until a time."""
        return next((use for use in reversed(self.uses) if use.at <= until), None)


class SandboxUser(msgspec.Struct, kw_only=True):
    """One IAM user."""

    name: str
    path: str
    id: str
    account: str
    created: datetime
    console: bool = False
    allow: tuple[str, ...] | None = None
    keys: list[SandboxKey] = []
    known_from: datetime = EVER
    deleted: datetime | None = None
    policies: list[str] = []
    former: list[tuple[datetime, str, str]] = []

    def exists_at(self, when: datetime) -> bool:
        """Whether the user was there at a time."""
        return self.known_from <= when and (self.deleted is None or when < self.deleted)

    def called_at(self, when: datetime) -> tuple[str, str]:
        """The name and path at a time; `former` are those that ended then, oldest first."""
        for until, name, path in self.former:
            if when < until:
                return name, path
        return self.name, self.path

    def rename(self, name: str, path: str, now: datetime) -> None:
        """Take another name and path from now on; the keys go with the user."""
        self.former = [*self.former, (now, self.name, self.path)]
        self.name, self.path = name, path
        for key in self.keys:
            key.user = name


class SandboxRole(msgspec.Struct, kw_only=True):
    """One role."""

    name: str
    path: str
    id: str
    trust: tuple[str, ...]
    external_id: str
    max_session: timedelta
    allow: tuple[str, ...] | None


class GeneratedReport(msgspec.Struct, frozen=True):
    """A stored credential report."""

    started: datetime
    ready: datetime
    content: bytes


class SandboxAccount(msgspec.Struct, kw_only=True):
    """One account; `unit` is its place in the organization."""

    id: str
    name: str
    alias: str
    partition: str
    status: str
    unit: str
    tags: dict[str, str]
    joined: datetime
    users: dict[str, SandboxUser] = {}
    former_users: list[SandboxUser] = []
    renamed: list[SandboxUser] = []
    roles: dict[str, SandboxRole] = {}
    root_keys: list[SandboxKey] = []
    report: GeneratedReport | None = None
    next_report: GeneratedReport | None = None

    def arn(self, rest: str, service: str = "iam") -> str:
        """The ARN of something in this account."""
        return f"arn:{self.partition}:{service}::{self.id}:{rest}"

    def user_arn(self, user: SandboxUser, when: datetime | None = None) -> str:
        """The ARN of a user, path and all, now or at a time."""
        name, path = user.called_at(when) if when else (user.name, user.path)
        return self.arn(f"user{path}{name}")

    def user_at(self, name: str, when: datetime) -> SandboxUser | None:
        """The user who had a name at a time."""
        known = [self.users[name]] if name in self.users else []
        return next(
            (
                user
                for user in (*known, *self.renamed, *self.former_users)
                if user.exists_at(when) and user.called_at(when)[0] == name
            ),
            None,
        )

    def role_arn(self, role: SandboxRole) -> str:
        """The ARN of a role, path and all."""
        return self.arn(f"role{role.path}{role.name}")

    @property
    def root_arn(self) -> str:
        """The root user's ARN."""
        return self.arn("root")


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request that was answered: what a test asks the sandbox about."""

    at: datetime
    action: str
    account: str
    caller: str
    key: str
    params: dict[str, str]
    status: int
    error: str


class Company:
    """Everything the sandbox knows; every access holds `lock`."""

    def __init__(self, *, seed: str, partition: str, clock: SandboxClock) -> None:
        self.seed = seed
        self.partition = partition
        self.clock = clock
        self.lock = threading.RLock()
        self.random = random.Random(seed)
        self.accounts: dict[str, SandboxAccount] = {}
        self.keys: dict[str, SandboxKey] = {}
        self.sessions: dict[str, IssuedSession] = {}
        self.calls: list[CallRecord] = []
        self.trail = EventLog()
        self.regions: tuple[str, ...] = ()
        self.regions_off: tuple[str, ...] = ()
        self.organization: OrganizationTable | None = None
        self.report = ReportTable()
        self.faults: list[Fault] = []
        self.lookup_rate: float | None = None
        self.operator: SandboxKey
        self.objects: dict[tuple[str, str], bytes] = {}
        self.queues: dict[str, list[str]] = {}
        # By account and region: what Secrets Manager and the Parameter Store hold.
        self.secrets: dict[str, dict[str, StoredSecret]] = {}
        self.parameters: dict[str, dict[str, StoredParameter]] = {}

    @property
    def global_region(self) -> str:
        """The region that IAM requests are signed for."""
        return GLOBAL_REGION[self.partition]

    def derive(self, kind: str, name: str, length: int) -> str:
        """Letters made from the seed: the same scenario makes the same ids and secrets."""
        digest = hmac.new(self.seed.encode(), f"{kind}/{name}".encode(), hashlib.sha512).digest()
        return base64.b32encode(digest).decode()[:length]

    def secret(self, name: str) -> str:
        """The practice secret of an access key id."""
        digest = hmac.new(self.seed.encode(), f"secret/{name}".encode(), hashlib.sha512).digest()
        return base64.b64encode(digest).decode().replace("=", "A")[:40]

    def fresh(self, prefix: str) -> str:
        """An id that was never given before, such as AKIA and sixteen letters."""
        return prefix + self.derive(prefix, str(self.random.getrandbits(64)), 16)

    def uuid(self) -> str:
        """A random request or event id."""
        text = f"{self.random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def user(self, account: str, name: str) -> SandboxUser:
        """A user by name; raises SandboxError."""
        try:
            return self.accounts[account].users[name]
        except KeyError:
            raise SandboxError(f"the sandbox has no user {name} in the account {account}.") from None

    def key(self, account: str, user: str, number: int) -> SandboxKey:
        """A user's key by its number from 1; raises SandboxError."""
        keys = self.user(account, user).keys
        if not 1 <= number <= len(keys):
            raise SandboxError(f"the user {user} of the account {account} has no key number {number}.")
        return keys[number - 1]

    def add_key(self, key: SandboxKey) -> SandboxKey:
        """Take in a key, under its user or the root user."""
        account = self.accounts[key.account]
        owner = account.users[key.user].keys if key.user else account.root_keys
        owner.append(key)
        self.keys[key.id] = key
        return key

    def caller_of_key(self, key: SandboxKey) -> CallerPrincipal:
        """Who a request with this long-term key comes from."""
        account = self.accounts[key.account]
        if not key.user:
            return CallerPrincipal(
                kind="Root", account=account.id, arn=account.root_arn, principal_id=account.id, key=key.id
            )
        user = account.users[key.user]
        return CallerPrincipal(
            kind="IAMUser",
            account=account.id,
            arn=account.user_arn(user),
            principal_id=user.id,
            key=key.id,
            user=user.name,
        )
