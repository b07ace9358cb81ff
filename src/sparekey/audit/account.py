"""Reads one account: its users and keys by listing or by credential report, last uses, quarantine and root keys."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal

from sparekey.audit.progress import AccountDone, AccountStarted, AuditEvent, UserRead, UsersListed
from sparekey.audit.single_user import (
    ACCESS_ENDED,
    AuditedAccount,
    NeedLastUse,
    Quarantine,
    mark_quarantined,
    read_quarantine,
    read_user,
    unreadable,
)
from sparekey.aws.credential_report import ReportRow
from sparekey.aws.errors import (
    AwsError,
    NotFoundError,
)
from sparekey.aws.event_history import LAG, MARGIN, KeyChanges
from sparekey.aws.worker_pool import AccountQueue, WorkerPool
from sparekey.clock import Clock
from sparekey.model import (
    AccessKey,
    Account,
    Unreadable,
    User,
    Value,
)

ReadMode = Literal["list", "report", "auto"]
# Above so many users the credential report costs less than listing everybody's keys.
_LIST_INSTEAD_BELOW = 20
# IAM is eventually consistent: a user just made may seem absent for seconds, so absence is asked for twice.
_SECOND_LISTING_AFTER = 2.0
# How often the users are listed again where some are not found under the names that they were listed with.
_MAX_LISTINGS = 3


class ReadOptions(Value, frozen=True):
    """What is to be read of each account, and how.

    `last_use`: for the active keys of users with spare keys, or for all active keys. `fresh`: IAM is asked
    for each last use even where the credential report has one. `quarantine`: AWS is asked whom it has
    quarantined for a leaked key. `root`: the credential report is asked for the root user's keys, if it has any.
    """

    read: ReadMode = "list"
    last_use: NeedLastUse = "spare"
    fresh: bool = True
    quarantine: bool = False
    root: bool = False


class AccountReader:
    """The reading of one account: its tasks run on the crew, the last one to end reports the account."""

    def __init__(
        self, account: AuditedAccount, clock: Clock, pool: WorkerPool[AuditEvent], options: ReadOptions
    ) -> None:
        self._account = account
        self._clock = clock
        self._pool = pool
        self._options = options
        self._queue = AccountQueue(account)
        self._lock = threading.Lock()
        self._pending = 0
        self._report_rows: dict[str, User] = {}
        self._users: dict[str, User] = {}
        self._missing: set[str] = set()
        self._rounds = 0
        self._failed: Unreadable | None = None
        self._alias = ""
        self._root_keys: int | Unreadable | None = None
        self._notes: list[str] = []
        self._as_of = clock.now()
        self._read_by: Literal["list", "report"] = "list"
        self._history: Unreadable | None = None
        self._quarantine: Quarantine | None = None
        self._root: tuple[AccessKey, ...] | Unreadable = ()

    def start(self) -> None:
        """Hand the first task to the crew."""
        self._pool.emit(AccountStarted(self._account.account_id))
        self._run_task(self._begin)

    def _begin(self) -> None:
        read = self._options.read
        if self._options.quarantine:
            self._run_task(self._read_quarantine)
        if read == "list":
            self._run_task(self._read_alias)
            self._run_task(self._read_summary_and_root)
            self._list_users()
            return
        users = self._read_summary()  # alone: other tasks would only wait while a role is assumed
        self._run_task(self._read_alias)
        if read == "report" or users > _LIST_INSTEAD_BELOW:
            self._read_report()
            return
        if self._needs_root():
            self._run_task(self._read_root)
        self._list_users()

    def _run_task(self, task: Callable[[], object]) -> None:
        with self._lock:
            self._pending += 1

        def run() -> None:
            if self._failed is None:
                try:
                    task()
                except ACCESS_ENDED as error:  # the same would come of every further call
                    self._failed = unreadable(error.action or "account", error)
            self._finish_task()

        self._pool.put(self._queue, run)

    def _finish_task(self) -> None:
        with self._lock:
            self._pending -= 1
            last = self._pending == 0
        if not last:
            return
        if self._failed is None and self._is_unstable():
            self._run_task(self._list_again)
        else:
            self._account.close()
            self._pool.emit(AccountDone(self._result(), 0, 0))

    def _result(self) -> Account:
        return Account(
            id=self._account.account_id,
            partition=self._account.partition,
            users=self._failed
            or tuple(
                mark_quarantined(user, self._quarantine or ()) for _, user in sorted(self._users.items())
            ),
            as_of=self._as_of,
            alias=self._alias,
            read_by=self._read_by,
            root_keys=self._root_keys,
            notes=tuple(sorted(self._notes)),
            history=self._history,
            quarantine=self._quarantine
            if isinstance(self._quarantine, Unreadable)
            else self._quarantine is not None,
            root=self._root,
        )

    def _read_quarantine(self) -> None:
        self._quarantine = read_quarantine(self._account)

    def _read_alias(self) -> None:
        try:
            self._alias = self._account.alias()
        except ACCESS_ENDED:
            raise
        except AwsError as error:
            self._notes.append(f"the alias could not be read: {error.message}")

    def _read_summary(self) -> int:
        """The root user's keys; returns how many users there are, 0 where that is not known."""
        try:
            summary = self._account.summary()
        except ACCESS_ENDED:
            raise
        except AwsError as error:
            self._root_keys = unreadable("iam:GetAccountSummary", error)
            return 0
        self._root_keys = summary.root_keys
        return summary.user_count

    def _read_summary_and_root(self) -> None:
        self._read_summary()
        if self._needs_root():
            self._read_root()

    def _needs_root(self) -> bool:
        return self._options.root and isinstance(self._root_keys, int) and self._root_keys > 0

    def _read_root(self) -> None:
        """Number, age and last use of the root user's keys: in one's own account only the report has them."""
        try:
            self._root = self._account.credential_report().root_keys
        except ACCESS_ENDED:
            raise
        except AwsError as error:
            self._root = unreadable("iam:GetCredentialReport", error)

    def _list_users(self) -> None:
        self._report_rows = {}
        for user in self._each_user():
            self._report_rows[user.name] = user
            self._run_task(functools.partial(self._read_user, user))
            if len(self._report_rows) % 1000 == 0:
                self._pool.emit(UsersListed(self._account.account_id, len(self._report_rows), whole=False))
        if self._failed is None:
            self._pool.emit(UsersListed(self._account.account_id, len(self._report_rows), whole=True))

    def _each_user(self) -> Iterator[User]:
        """Every user that IAM lists; where that fails, the account as a whole was not read."""
        try:
            yield from self._account.list_users()
        except ACCESS_ENDED:
            raise
        except AwsError as error:
            # Some users of some pages are no answer.
            self._failed = unreadable("iam:ListUsers", error)

    def _list_instead_of_report(self, why: str) -> None:
        """Drop what the report has of users, and list them one by one."""
        self._notes.append(f"listed user by user: {why}")
        self._users.clear()
        self._missing.clear()
        self._read_by = "list"
        self._as_of, self._history = self._clock.now(), None
        self._list_users()

    def _is_unstable(self) -> bool:
        """True where a user was not found under the name it was listed with, or two users have one key."""
        ids = [
            key.id
            for user in self._users.values()
            if not isinstance(user.keys, Unreadable)
            for key in user.keys
            if key.id
        ]
        if len(ids) > len(set(ids)) and self._rounds < _MAX_LISTINGS:
            return True  # users took each other's name between one listing and the next
        return bool(self._missing)

    def _list_again(self) -> None:
        """Find the users that are not found any more: they were deleted, or renamed while they were read."""
        if self._read_by == "report":
            self._list_instead_of_report(
                "a user of the credential report is not found, or has other keys, now"
            )
            return
        self._rounds += 1
        before, missing = self._report_rows, self._missing
        self._report_rows, self._missing = {user.name: user for user in self._each_user()}, set()
        if self._failed is not None:
            return
        now = {_user_identity(user): user.name for user in self._report_rows.values()}
        for name in sorted(missing):
            new = now.get(_user_identity(before[name]))
            if new is None:
                self._notes.append(f"user {name} was deleted while the account was read")
                self._pool.emit(UserRead(self._account.account_id, name, None))
            elif new != name:
                self._notes.append(f"user {name} was renamed to {new} while the account was read")
        self._users = {
            name: user
            for name, user in self._users.items()
            if name in self._report_rows and _same_users(before[name], self._report_rows[name])
        }
        for name, user in self._report_rows.items():
            if name not in self._users:
                self._run_task(functools.partial(self._read_user, user))

    def _read_report(self) -> None:
        try:
            report = self._account.credential_report()
        except ACCESS_ENDED:
            raise
        except AwsError as error:
            if self._needs_root():
                self._root = unreadable("iam:GetCredentialReport", error)
            if self._options.read == "report":
                self._failed = unreadable("iam:GetCredentialReport", error)
            else:
                self._notes.append(f"listed user by user, since there is no report: {error.message}")
                self._list_users()
            return
        if self._needs_root():
            self._root = report.root_keys
        changes = self._changes_since_report(report.generated)
        known = {row.name for row in report.rows}
        if changes.renamed:
            self._list_instead_of_report("users were renamed or moved to another path after the report")
            return
        if changes.incomplete or not changes.users <= known:
            self._list_instead_of_report("keys changed after the report of users that it does not name")
            return
        self._read_by = "report"
        self._pool.emit(UsersListed(self._account.account_id, len(report.rows), whole=True))
        for row in report.rows:
            self._accept_row(row, report.generated, changed=row.name in changes.users)

    def _changes_since_report(self, generated: datetime) -> KeyChanges:
        try:
            changes = self._account.key_changes(generated - MARGIN)
        except ACCESS_ENDED:
            raise
        except AwsError as error:
            self._history = unreadable("cloudtrail:LookupEvents", error)
            self._notes.append(f"as of the credential report; later changes are not known: {error.message}")
            self._as_of = generated
            return KeyChanges(frozenset())
        self._as_of = max(generated, self._as_of - LAG)
        return changes

    def _accept_row(self, row: ReportRow, generated: datetime, *, changed: bool) -> None:
        matters = row.active > 1 or changed or not row.complete
        # Whether a key that was never used is idle depends on its age, and the report proves no age.
        ageless = self._options.last_use == "all" and any(
            slot.active and slot.last_used.state != "used" for slot in row.slots
        )
        user = User(row.name, row.arn, (), row.created)
        if matters or ageless:
            trusted_row = None if changed or self._options.fresh else row
            self._run_task(functools.partial(self._read_user_of_row, user, row, generated, trusted_row))
            return
        keys = tuple(
            AccessKey(None, "Active" if slot.active else "Inactive", None, slot.last_used)
            for slot in row.slots
        )
        self._add(User(row.name, row.arn, keys, row.created))

    def _read_user_of_row(
        self, user: User, row: ReportRow, generated: datetime, trusted_row: ReportRow | None
    ) -> None:
        """Read a user of the report; where the name is now another user's, the account is listed afresh."""
        fresh = self._find_user(user, trusted_row)
        if fresh is None or not row_matches_user(row, fresh, generated):
            self._missing.add(user.name)
        else:
            self._add(fresh)

    def _read_user(self, user: User) -> None:
        fresh = self._find_user(user)
        if fresh is None and self._rounds < _MAX_LISTINGS:
            self._missing.add(user.name)
            return
        if fresh is None:
            why = "the user is listed, but not found when its keys are listed: it is being renamed or deleted"
            fresh = User(
                user.name,
                user.arn,
                Unreadable("iam:ListAccessKeys", why, "NoSuchEntity"),
                user.created,
                user.id,
            )
        self._add(fresh)

    def _find_user(self, user: User, row: ReportRow | None = None) -> User | None:
        """A user and its keys as they are now; None where nobody has the name."""
        for pause in (_SECOND_LISTING_AFTER, 0.0):
            with contextlib.suppress(NotFoundError):
                return read_user(
                    self._account,
                    user.name,
                    self._options.last_use,
                    arn=user.arn,
                    created=user.created,
                    id_=user.id,
                    row=row,
                )
            self._clock.sleep(pause)
        return None

    def _add(self, user: User) -> None:
        self._users[user.name] = user
        self._pool.emit(UserRead(self._account.account_id, user.name, user))


def row_matches_user(row: ReportRow, user: User, generated: datetime) -> bool:
    """False where none of the keys that a user had when the report was made is in its row of the report.

    Then the row was another user's, who was renamed or deleted since.
    """
    keys = () if isinstance(user.keys, Unreadable) else user.keys
    old = {key.created for key in keys if key.created is not None and key.created < generated}
    return not old or bool(old & {slot.rotated for slot in row.slots})


def _user_identity(user: User) -> str:
    return user.id or user.arn


def _same_users(before: User, now: User) -> bool:
    return (_user_identity(before), before.arn) == (_user_identity(now), now.arn)
