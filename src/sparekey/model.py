"""The nouns: frozen values that every room uses; no clock, no I/O.

All times are aware UTC datetimes; one without a zone is refused where a value is read from a file.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Literal

import msgspec

Time = Annotated[datetime, msgspec.Meta(tz=True)]

ACTIVE = "Active"
INACTIVE = "Inactive"
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKeyMetadata.html
INACTIVE_STATUSES = frozenset({INACTIVE, "Expired"})


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A frozen value that can be hashed, compared and written as JSON."""


class Unreadable(Value, frozen=True):
    """Something that should have been read and was not: `what` names it, `why` is the error."""

    what: str
    why: str
    code: str = ""


class LastUsed(Value, frozen=True):
    """IAM's own view of a key's last use: coarse (15 minutes or more) and late.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
    """

    state: Literal["used", "never", "not_read", "unreadable"]
    at: Time | None = None
    service: str | None = None
    region: str | None = None
    why: str = ""


NOT_READ = LastUsed("not_read")
NEVER_USED = LastUsed("never")


class AccessKey(Value, frozen=True):
    """One access key of a user.

    `id` is None only where the credential report alone was read (it has no ids); `created` is None
    where no listing showed it (the report's `last_rotated` proves no age).
    """

    id: str | None
    status: str
    created: Time | None
    last_used: LastUsed = NOT_READ

    @property
    def active(self) -> bool:
        """True unless the status is known to be switched off: an unknown status is not "inactive"."""
        return self.status not in INACTIVE_STATUSES


class User(Value, frozen=True):
    """One IAM user and its access keys, or why they could not be read.

    `id` is IAM's own (`AIDA…`), which a rename keeps and a new user of the same name does not have; empty
    where it was not read. `quarantine` names the policies by which AWS marks a key of the user as leaked, or
    says why they could not be read; empty also where nobody asked (`Account.quarantine`).
    """

    name: str
    arn: str
    keys: tuple[AccessKey, ...] | Unreadable
    created: Time | None = None
    id: str = ""
    quarantine: tuple[str, ...] | Unreadable = ()

    @property
    def active_keys(self) -> tuple[AccessKey, ...]:
        """The keys that may work; empty where the keys could not be read (ask `keys` first)."""
        return () if isinstance(self.keys, Unreadable) else tuple(key for key in self.keys if key.active)


class Account(Value, frozen=True):
    """One AWS account as it was read: its users, or why they could not be read.

    `root_keys` is `AccountAccessKeysPresent` (0 or 1). `as_of` is the time the answer is true of; `notes`
    says what the reading could not see. `history` is why changes after `as_of` could not be looked for.
    `quarantine` is whether it was asked which users AWS has quarantined, or why that could not be read.
    `root` is what the credential report has of the root user's keys, where it was read: no ids, and as
    `created` the time from which on the key has been as it is.
    """

    id: str
    partition: str
    users: tuple[User, ...] | Unreadable
    as_of: Time
    alias: str = ""
    read_by: Literal["list", "report"] = "list"
    root_keys: int | Unreadable | None = None
    notes: tuple[str, ...] = ()
    history: Unreadable | None = None
    quarantine: Unreadable | bool = False
    root: tuple[AccessKey, ...] | Unreadable = ()


class Quarantined(Value, frozen=True):
    """A user to whom AWS has attached a policy that marks a key of the user as leaked."""

    name: str
    id: str
    policy: str


# Stands for every account, or for every user of one.
ANY = "*"


class Caller(Value, frozen=True):
    """Who is asking: the identity of the credentials, and every user and long-term key that signs for us.

    `users` are (account, name); a bare name, as older ledgers have it, is of the caller's own account.
    `suspects` are users that may be behind credentials that nobody could identify, `ANY` for all of them;
    `unknown` says, in a sentence each, what could not be identified and why.
    """

    account: str
    arn: str
    users: frozenset[tuple[str, str] | str] = frozenset()
    keys: frozenset[str] = frozenset()
    suspects: frozenset[tuple[str, str]] = frozenset()
    unknown: tuple[str, ...] = ()

    def protects(
        self, account: str, user: str, keys: Iterable[str | None]
    ) -> Literal["", "caller", "caller-unknown"]:
        """Whether a user with these keys signs for us, or may do so."""
        own = account == self.account and user in self.users
        if own or (account, user) in self.users or any(key in self.keys for key in keys):
            return "caller"
        may = ((account, user), (account, ANY), (ANY, ANY))
        return "caller-unknown" if any(name in self.suspects for name in may) else ""


class RootKeys(Value, frozen=True):
    """One account's root user: how many access keys it has, and which, where that is known.

    Keys without an id are the credential report's: they are at least as old as `created` says.
    """

    account: str
    name: str
    present: int | Unreadable
    keys: tuple[AccessKey, ...] | Unreadable = ()


class SkippedAccount(Value, frozen=True):
    """An account that is not read since it is not active; `state` is AWS's own word."""

    id: str
    name: str
    state: str


class Snapshot(Value, frozen=True):
    """All that was read, sorted by account and user; nothing is decided before it is complete."""

    generated: Time
    caller: Caller
    accounts: tuple[Account, ...]
    skipped: tuple[SkippedAccount, ...] = ()

    def users(self) -> Iterator[tuple[Account, User]]:
        """Yield every user that was listed, in order."""
        for account in self.accounts:
            if not isinstance(account.users, Unreadable):
                for user in account.users:
                    yield account, user


FindingStatus = Literal["PASS", "FAIL", "EXEMPT", "UNREADABLE"]


class Finding(Value, frozen=True):
    """One rule's finding on one user, or of the account where `user` is empty."""

    rule: str
    account: str
    user: str
    status: FindingStatus
    message: str
    key: str = ""


class Evidence(Value, frozen=True):
    """One fact that a decision rests on: `source` is the API or file it comes from, `at` when it was true."""

    source: str
    fact: str
    key: str = ""
    at: Time | None = None


class ServiceUse(Value, frozen=True):
    """One consumer's calls to one service in one region.

    `longest_gap` is the longest time between two hours with calls that follow one another (whole hours).
    `own_last` is the latest call signed with the key itself, as IAM's own last use counts; None where only
    sessions called. `daily` counts the calls of each day (UTC).
    """

    service: str
    region: str
    actions: tuple[str, ...]
    calls: int
    errors: int
    first_seen: Time
    last_seen: Time
    longest_gap: timedelta
    own_last: Time | None = None
    daily: tuple[tuple[date, int], ...] = ()


class Consumer(Value, frozen=True):
    """What a person would recognise as one application: user agent family, and source address or service."""

    agent: str
    source: str
    uses: tuple[ServiceUse, ...]

    @property
    def calls(self) -> int:
        """Distinct events."""
        return sum(use.calls for use in self.uses)

    @property
    def first_seen(self) -> datetime:
        """The earliest call."""
        return min(use.first_seen for use in self.uses)

    @property
    def last_seen(self) -> datetime:
        """The latest call."""
        return max(use.last_seen for use in self.uses)


class Usage(Value, frozen=True):
    """Who used one key, by one usage source, between `since` and `until`; sessions it minted included.

    `since` is None where nothing bounds the reading; `until` is the time up to which the source was read.
    `partial` is why the usage may not be whole (cut short, sessions not followed); empty where it is whole.
    """

    key: str
    source: str
    since: Time | None
    until: Time | None
    calls: int
    errors: int
    sessions: int
    consumers: tuple[Consumer, ...]
    first_seen: Time | None = None
    last_seen: Time | None = None
    partial: tuple[str, ...] = ()
    unread: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()


class UserVerdict(Value, frozen=True):
    """What the rules that were asked say of one user together, worst first, and each finding."""

    user: User
    status: FindingStatus
    findings: tuple[Finding, ...]


class AccountVerdict(Value, frozen=True):
    """An account with the verdict on each of its users; `findings` are those of the account itself."""

    account: Account
    users: tuple[UserVerdict, ...]
    findings: tuple[Finding, ...]


class Coverage(Value, frozen=True):
    """How much was read and what it came to; `users_spare` have two or more active keys, exempt or not.

    `accounts_as_of` were read by a credential report after which changes could not be looked for.
    """

    accounts_read: int
    accounts_unreadable: int
    users_read: int
    users_unreadable: int
    users_spare: int
    users_exempt: int
    findings_failed: int
    accounts_as_of: int = 0


class Audit(Value, frozen=True):
    """A snapshot, the rules that were asked of it and their verdict."""

    snapshot: Snapshot
    rules: tuple[str, ...]
    accounts: tuple[AccountVerdict, ...]
    coverage: Coverage
    cis: str = ""


StepState = Literal[
    "planned",
    "held",
    "already_inactive",
    "gone",
    "in_doubt",
    "applied",
    "confirmed",
    "watching",
    "settled",
    "unwatched",
    "reactivating",
    "rolled_back",
    "rollback_failed",
    "undone",
    "changed",
    "deleting",
    "deleted",
    "creating",
    "stored",
    "usable",
    "moving",
    "stalled",
    "moved",
    "reverting",
    "reverted",
    "orphaned",
    "failed",
]
RunState = Literal[
    "applying",
    "waiting",
    "stopped",
    "moving",
    "watching",
    "settled",
    "unwatched",
    "rolled_back",
    "rollback_failed",
    "undone",
    "failed",
]


class Rotation(Value, frozen=True):
    """How far the rotation of a key is: the new key, its versions in the store, and who has moved.

    `next_check` is when the consumers are looked at again.
    """

    store: str
    copies: tuple[str, ...] = ()
    new_key: str = ""
    version: str = ""
    previous: str = ""
    created_at: Time | None = None
    published_at: Time | None = None
    next_check: Time | None = None
    moved: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class StepRecord(Value, frozen=True):
    """What became of one step: `before` and `after` are the user's listings (key to status) around the write.

    `decided` is what the plan states of it. `in_doubt`: a write was intended and its answer is not known.
    `changed`: somebody else changed the key since. `rollback_failed`: the key is inactive beside an unhealthy
    probe, since AWS did not let it be reactivated; it is tried again. `never_reactivate` is why only a person may
    reactivate the key, `not_reactivated` what would have done so by itself ("rollback", "undo", "no-active-key").
    """

    account: str
    user: str
    keep: str | None
    key: str
    state: StepState
    decided: str
    why: str = ""
    release: str = ""
    request_ids: tuple[str, ...] = ()
    before: Mapping[str, str] = {}
    after: Mapping[str, str] = {}
    changed_at: Time | None = None
    evidence: tuple[Evidence, ...] = ()
    never_reactivate: str = ""
    not_reactivated: str = ""
    rotation: Rotation | None = None


class RunRecord(Value, frozen=True):
    """One run by its ledger; `head` is the hash of its last entry."""

    id: str
    plan_digest: str
    caller: str
    state: RunState
    opened: Time
    updated: Time
    steps: tuple[StepRecord, ...]
    entries: int
    head: str
    wave: int = 1
    waves: int = 1
    watch_until: Time | None = None
    notes: tuple[str, ...] = ()
