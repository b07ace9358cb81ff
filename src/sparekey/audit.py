"""Reads every user and access key of many accounts at once, and ends in one immutable `Snapshot`.

One account's failure stops no other: what could not be read is a value in the snapshot.
"""

import contextlib
import functools
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import ClassVar, Literal, Protocol

from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.clock import Clock
from sparekey.errors import SparekeyError
from sparekey.model import AccessKey, Account, Caller, LastUsed, Snapshot, Unreadable, User, Value

NeedLastUse = Literal["spare", "all"]

# IAM is eventually consistent: a user just made may seem absent for seconds, so absence is asked for twice.
_SECOND_LOOK = 2.0
_TICK = 0.2  # seconds between looks at Ctrl-C


class AuditedAccount(Protocol):
    """What an audit needs of one account; every method raises AwsError."""

    @property
    def account_id(self) -> str: ...

    @property
    def partition(self) -> str: ...

    @property
    def width(self) -> int:
        """How many calls are useful in flight at once."""
        ...

    def alias(self) -> str: ...

    def root_keys(self) -> int: ...

    def list_users(self) -> Iterator[User]: ...

    def list_keys(self, user: str) -> tuple[AccessKey, ...]: ...

    def last_used(self, key_id: str) -> LastUsed: ...


class AccountStarted(Value, frozen=True):
    """The reading of an account has begun."""

    account: str


class UsersListed(Value, frozen=True):
    """So many users of an account are known so far; `whole` once the list is at its end."""

    account: str
    users: int
    whole: bool


class UserRead(Value, frozen=True):
    """One user's keys were read, or could not be; None where the user is gone."""

    account: str
    name: str
    user: User | None


class AccountDone(Value, frozen=True):
    """An account is read, or could not be; `done` of `total` accounts are."""

    account: Account
    done: int
    total: int


Event = AccountStarted | UsersListed | UserRead | AccountDone


class InterruptedAuditError(SparekeyError):
    """Ctrl-C: `partial` holds the accounts that were read whole, and is not the whole answer."""

    exit_code: ClassVar[int] = 130

    def __init__(self, partial: Snapshot, total: int) -> None:
        users = sum(1 for _ in partial.users())
        super().__init__(
            f"interrupted: {len(partial.accounts)} of {total} accounts with {users} users were read; "
            "of the rest nothing is said"
        )
        self.partial = partial


def audit(
    accounts: Sequence[AuditedAccount],
    clock: Clock,
    *,
    caller: Caller,
    need_last_use: NeedLastUse = "spare",
    workers: int = 64,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Snapshot:
    """Read all accounts; raises InterruptedAuditError on Ctrl-C. Events come on the caller's thread."""
    began = clock.now()
    done: list[Account] = []
    waiting = iter(accounts)
    try:
        with _Crew(workers) as crew:
            for account in itertools.islice(waiting, workers):
                _Reading(account, clock, crew, need_last_use).start()
            while len(done) < len(accounts):
                event = crew.next_event()
                if isinstance(event, AccountDone):
                    done.append(event.account)
                    event = AccountDone(event.account, len(done), len(accounts))
                    for account in itertools.islice(waiting, 1):
                        _Reading(account, clock, crew, need_last_use).start()
                on_event(event)
    except KeyboardInterrupt:
        raise InterruptedAuditError(_snapshot(began, caller, done), len(accounts)) from None
    return _snapshot(began, caller, done)


def read_user(
    account: AuditedAccount,
    name: str,
    need_last_use: NeedLastUse = "spare",
    *,
    arn: str = "",
    created: datetime | None = None,
) -> User:
    """One user as it is now; raises NotFoundError where the user is gone, any other failure is in the value."""
    try:
        keys = account.list_keys(name)
    except NotFoundError:
        raise
    except AwsError as error:
        return User(name, arn, _unread("iam:ListAccessKeys", error), created)
    wanted = need_last_use == "all" or sum(key.active for key in keys) > 1
    if wanted:
        keys = tuple(_with_last_use(account, key) if key.active else key for key in keys)
    return User(name, arn, keys, created)


def _with_last_use(account: AuditedAccount, key: AccessKey) -> AccessKey:
    try:
        used = account.last_used(key.id or "")
    except AwsError as error:
        used = LastUsed("unreadable", why=error.message)  # a failure is never "never used"
    return AccessKey(key.id, key.status, key.created, used)


def _unread(what: str, error: AwsError) -> Unreadable:
    return Unreadable(what, error.message, error.code)


def _snapshot(began: datetime, caller: Caller, accounts: list[Account]) -> Snapshot:
    return Snapshot(began, caller, tuple(sorted(accounts, key=lambda account: account.id)))


class _Reading:
    """The reading of one account: its tasks run on the crew, the last one to end reports the account."""

    def __init__(self, account: AuditedAccount, clock: Clock, crew: "_Crew", need: NeedLastUse) -> None:
        self._account = account
        self._clock = clock
        self._crew = crew
        self._need: NeedLastUse = need
        self._lane = _Lane(account)
        self._lock = threading.Lock()
        self._open = 0
        self._began = clock.now()
        self._users: list[User] = []
        self._failed: Unreadable | None = None
        self._alias = ""
        self._root_keys: int | Unreadable | None = None
        self._notes: list[str] = []

    def start(self) -> None:
        """Hand the first tasks to the crew."""
        self._open = 1  # until all three are handed over
        self._crew.tell(AccountStarted(self._account.account_id))
        self._do(self._list_users)
        self._do(self._read_alias)
        self._do(self._read_root_keys)
        self._end_task()

    def _do(self, task: Callable[[], None]) -> None:
        with self._lock:
            self._open += 1

        def run() -> None:
            if self._failed is None:
                task()
            self._end_task()

        self._crew.put(self._lane, run)

    def _end_task(self) -> None:
        with self._lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self._crew.tell(AccountDone(self._result(), 0, 0))

    def _result(self) -> Account:
        users = tuple(sorted(self._users, key=lambda user: user.name))
        return Account(
            id=self._account.account_id,
            partition=self._account.partition,
            users=self._failed or users,
            as_of=self._began,
            alias=self._alias,
            root_keys=self._root_keys,
            notes=tuple(sorted(self._notes)),
        )

    def _list_users(self) -> None:
        known = 0
        try:
            for user in self._account.list_users():
                known += 1
                self._do(functools.partial(self._read_user, user))
                if known % 1000 == 0:
                    self._crew.tell(UsersListed(self._account.account_id, known, whole=False))
        except AwsError as error:
            # Some users of some pages are no answer: the account as a whole was not read.
            self._failed = _unread("iam:ListUsers", error)
            return
        self._crew.tell(UsersListed(self._account.account_id, known, whole=True))

    def _read_user(self, user: User) -> None:
        read = self._read_or_gone(user)
        if read is None:
            self._notes.append(f"user {user.name} was deleted while the account was read")
        else:
            self._users.append(read)
        self._crew.tell(UserRead(self._account.account_id, user.name, read))

    def _read_or_gone(self, user: User) -> User | None:
        for pause in (_SECOND_LOOK, 0.0):
            with contextlib.suppress(NotFoundError):
                return read_user(self._account, user.name, self._need, arn=user.arn, created=user.created)
            self._clock.sleep(pause)
        return None

    def _read_alias(self) -> None:
        try:
            self._alias = self._account.alias()
        except AwsError as error:
            self._notes.append(f"the alias could not be read: {error.message}")

    def _read_root_keys(self) -> None:
        try:
            self._root_keys = self._account.root_keys()
        except AwsError as error:
            self._root_keys = _unread("iam:GetAccountSummary", error)


class _Lane:
    """One account's waiting tasks; no more run at once than the account can bear."""

    def __init__(self, account: AuditedAccount) -> None:
        self.account = account
        self.tasks: deque[Callable[[], None]] = deque()
        self.running = 0
        self.ready = False  # it stands in the crew's queue

    def can_run(self) -> bool:
        """True while a task waits and the account's width is not used up."""
        return bool(self.tasks) and self.running < self.account.width


class _Crew:
    """Threads that take tasks from many lanes in turn, so that a slow account holds up no other.

    The threads are daemons: on Ctrl-C nobody waits for an answer that is on its way.
    """

    def __init__(self, workers: int) -> None:
        self._changed = threading.Condition()
        self._lanes: deque[_Lane] = deque()
        self._stopped = False
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]

    def __enter__(self) -> "_Crew":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if kind is None:
            for thread in self._threads:
                thread.join()

    def put(self, lane: _Lane, task: Callable[[], None]) -> None:
        """Add a task to a lane."""
        with self._changed:
            lane.tasks.append(task)
            self._offer(lane)

    def tell(self, event: Event) -> None:
        """Pass an event to the calling thread."""
        self._events.put(event)

    def next_event(self) -> Event:
        """Wait for the next event; raises what a task raised against its contract."""
        while True:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=_TICK)  # a wait without an end would not see Ctrl-C
                if isinstance(event, BaseException):
                    raise event
                return event

    def _offer(self, lane: _Lane) -> None:
        if not lane.ready and lane.can_run():
            lane.ready = True
            self._lanes.append(lane)
            self._changed.notify()

    def _work(self) -> None:
        while taken := self._take():
            lane, task = taken
            try:
                task()
            except BaseException as error:  # noqa: BLE001  # raised again where the caller waits
                self._events.put(error)
            with self._changed:
                lane.running -= 1
                self._offer(lane)

    def _take(self) -> tuple[_Lane, Callable[[], None]] | None:
        with self._changed:
            while not self._stopped:
                if not self._lanes:
                    self._changed.wait()
                    continue
                lane = self._lanes.popleft()
                lane.ready = False
                if lane.can_run():
                    lane.running += 1
                    task = lane.tasks.popleft()
                    self._offer(lane)
                    return lane, task
            return None
