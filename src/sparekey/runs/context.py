"""One worker's turn at one user: what it is done with, and the claim under which it may write."""

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from sparekey.aws.access_keys import KeyReader, KeyWriter
from sparekey.aws.errors import (
    AwsError,
    FailedServiceError,
    MalformedResponseError,
    SessionEndedError,
    ThrottledError,
    UnreachableError,
)
from sparekey.clock import Clock
from sparekey.handover.interface import CreatedKey, PublishedKey
from sparekey.ledger.events import (
    STARTS,
    STOPS,
    KeyEvent,
    Listing,
    RotationIntended,
    RunEvent,
    Status,
    StepFailed,
    UserRenamed,
    WriteIntended,
    WriteReason,
    event_body,
    kind_of,
)
from sparekey.ledger.records import AccountLease, FencedError, LedgerEntry, UserClaim
from sparekey.ledger.store import Ledger
from sparekey.model import AccessKey, Caller, Usage, User, Value
from sparekey.policy import Policy
from sparekey.probes import ProbeResult
from sparekey.runs.key_facts import KeyFacts, UserId
from sparekey.runs.projection import project_keys
from sparekey.runs.run_header import RunHeader

T = TypeVar("T")
# Work yields the seconds it wants to wait, 0 where others may run first, or a call of AWS, whose answer it is
# given; see steps.py and drive.py.
Effect = float | Callable[[], Any]
StepCoroutine = Generator[Effect, Any, T]


# Who used keys of an account, by the policy's usage source.
ReadUsage = Callable[[Policy, str, tuple[str, ...]], tuple[Usage, ...]]


class KeyGateway(KeyReader, KeyWriter, Protocol):
    """One account's keys, to read and to write."""


class RetryPolicy(Value, frozen=True):
    """How a change is confirmed: by `agreeing_reads` equal listings, `pause` seconds apart.

    It is given up after `give_up_after` seconds. `backoff` are the waits, in seconds, between tries of a call
    that was throttled or cut off. A new key is usable once it was for `usable_for` seconds, checked every
    `usable_pause`; that is given up after `usable_within`. `visible_after` seconds after a creation whose answer was
    lost, listings show whether it happened.
    """

    agreeing_reads: int = 3
    pause: float = 2.0
    give_up_after: float = 60.0
    backoff: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    usable_for: float = 60.0
    usable_pause: float = 5.0
    usable_within: float = 600.0
    visible_after: float = 120.0


_DEFAULT_RETRY_POLICY = RetryPolicy()


class ProbeRunner(Protocol):
    """The health checks that a policy names."""

    def probes_for(self, policy: Policy, account: str, user: str) -> tuple[str, ...]:
        """The names of the probes that cover a user."""
        ...

    def interval(self, policy: Policy, name: str) -> timedelta:
        """How often a probe is asked."""
        ...

    def deadline(self, policy: Policy, name: str) -> float:
        """Seconds after which a probe that was asked counts as not answering."""
        ...

    def check(self, policy: Policy, name: str) -> ProbeResult:
        """Ask one probe now."""
        ...


class KeyHandover(Protocol):
    """Creates keys and hands them over as a policy says; see `sparekey.handover`. No method returns a secret."""

    def check(self, policy: Policy, account: str, user: str, keys: Collection[str]) -> tuple[str, ...]:
        """Raise where a key could not be handed over, or a place has a key that is none of `keys`; writes nothing.

        Returns what could not be checked.
        """
        ...

    def create(
        self, policy: Policy, account: str, user: str, name: str, about_to_write: Callable[[], None]
    ) -> CreatedKey:
        """Create a key and store it as pending; returns its id and the store's version."""
        ...

    def staged(self, policy: Policy, account: str, user: str, key: str) -> str:
        """The version that has a key as pending; empty where none has."""
        ...

    def creator_of(self, account: str, key: str, since: datetime) -> str:
        """The ARN of who created a key; empty where that is not known (yet)."""
        ...

    def identity_behind(self, policy: Policy, account: str, user: str, version: str, region: str) -> str:
        """The ARN that the pending key signs as; empty where AWS does not take it (yet)."""
        ...

    def publish(self, policy: Policy, account: str, user: str, version: str, key_id: str) -> PublishedKey:
        """Make the pending key current everywhere; may be repeated."""
        ...

    def revert(self, policy: Policy, account: str, user: str, version: str, key_id: str) -> tuple[str, ...]:
        """Let nothing have a key as its current one; may be repeated. Returns what each copy shows."""
        ...


class NoProbes:
    """No health checks at all."""

    def probes_for(self, _policy: Policy, _account: str, _user: str) -> tuple[str, ...]:
        """None."""
        return ()

    def interval(self, _policy: Policy, name: str) -> timedelta:
        """There is no such probe."""
        raise KeyError(name)

    def deadline(self, _policy: Policy, name: str) -> float:
        """There is no such probe."""
        raise KeyError(name)

    def check(self, _policy: Policy, name: str) -> ProbeResult:
        """There is no such probe."""
        raise KeyError(name)


_NO_PROBES = NoProbes()


@dataclass(frozen=True)
class RunContext:
    """Dependencies of a run's executor, all injected; `caller` is who this worker is to AWS.

    `caller_now` asks AWS again who signs, just before a deactivation; None where nobody could have changed.
    `handover` and `read_usage` are for rotations.
    `max_calls` is how many calls of AWS may be under way at once for one piece of work.
    """

    ledger: Ledger
    clock: Clock
    gateway_for: Callable[[str], KeyGateway]
    caller: Caller
    worker: str = "here"
    retry_policy: RetryPolicy = _DEFAULT_RETRY_POLICY
    probes: ProbeRunner = _NO_PROBES
    max_calls: int = 1
    caller_now: Callable[[], Caller] | None = None
    handover: KeyHandover | None = None
    read_usage: ReadUsage | None = None

    def record(self, run: str, event: RunEvent, *, lease: AccountLease | None = None) -> LedgerEntry:
        """Append something about the run itself; raises FencedError where the lease was taken over."""
        return self.ledger.append(run, kind_of(event), event_body(event), at=self.clock.now(), lease=lease)


class RetryStepError(Exception):
    """The write may not have happened: go through the whole step again after a wait."""


class UserLease:
    """The right to write to one user until somebody else takes it.

    `user` is who the plan names, under whom the ledger files everything; `name` is what AWS calls the user now.
    """

    def __init__(self, context: RunContext, run: RunHeader, user: UserId) -> None:
        self.context, self.run, self.user = context, run, user
        # Read before AWS is: another write to the user in between ends this claim.
        self.claim = context.ledger.claim(*user)
        self.name = user[1]

    @property
    def gateway(self) -> KeyGateway:
        """The account's keys; entering the account may ask AWS, so it belongs into a call."""
        return self.context.gateway_for(self.user[0])

    def facts(self, key: str) -> KeyFacts:
        """What the run's ledger says of one of the user's keys."""
        return self.all_facts().get(key, KeyFacts())

    def all_facts(self) -> dict[str, KeyFacts]:
        """What the run's ledger says of the user's keys."""
        entries = self.context.ledger.entries(self.run.id, account=self.user[0], user=self.user[1])
        for entry in entries:
            if entry.kind == UserRenamed.__struct_config__.tag:
                self.name = str(entry.body["name"])
        return {key: known for (_, _, key), known in project_keys(entries).items()}

    def record(self, event: KeyEvent) -> None:
        """Append what happened to a key; raises FencedError where the lease is lost."""
        self._append(event, take=False)

    def try_record(self, event: KeyEvent) -> None:
        """Append it unless the lease is lost: then its new holder records what happened."""
        try:
            self._append(event, take=False)
        except FencedError:
            return

    def acquire(
        self, key: str, status: Status, because: WriteReason, before: Listing, why: str
    ) -> WriteIntended:
        """Store the intent of a write, which ends every other turn; raises FencedError or StoppedError."""
        intent = WriteIntended(
            *self.user, key, status, because, self.claim.epoch + 1, self.context.worker, before, why
        )  # fmt: skip
        self._append(intent, take=True)
        self.claim = UserClaim(*self.user, intent.epoch)
        return intent

    def acquire_after(self, event: KeyEvent) -> None:
        """Store what becomes of a key from here on, which ends every other turn; raises FencedError."""
        self._append(event, take=True)
        self.claim = UserClaim(*self.user, self.claim.epoch + 1)

    def check(self) -> None:
        """Raise FencedError where the lease is lost."""
        if not self.context.ledger.is_current(self.claim):
            raise FencedError(f"user {self.user[1]} was taken over by another worker")

    def check_not_stopped(self) -> None:
        """Raise StoppedError where nothing more of this run is to be deactivated: AWS need not be asked."""
        self.context.ledger.check_not_stopped(self.run.id, (STOPS, STARTS))

    def list_keys(self) -> StepCoroutine[User]:
        """The keys of the user of that name, last use not read; raises NotFoundError where there is none."""
        keys = yield from self.with_retries(lambda: self.gateway.list_keys(self.name))
        return User(self.user[1], "", keys)

    def read(self, listed: User) -> StepCoroutine[User]:
        """A user's keys with the last use of the active ones."""
        keys: tuple[AccessKey, ...] = ()
        for key in listed.keys if isinstance(listed.keys, tuple) else ():
            keys += ((yield from self._with_last_use(key)),)
        return User(self.user[1], "", keys)

    def _with_last_use(self, key: AccessKey) -> StepCoroutine[AccessKey]:
        name = key.id
        if name is None or not key.active:
            return key
        used = yield from self.with_retries(lambda: self.gateway.last_used(name))
        return msgspec.structs.replace(key, last_used=used)

    def with_retries(self, call: Callable[[], T]) -> StepCoroutine[T]:
        """Make a reading call; one that was throttled or cut off is tried again after growing waits."""
        for wait in self.context.retry_policy.backoff:
            try:
                return (yield from perform(call))
            except AwsError as error:
                if not is_temporary(error):
                    raise
            yield wait
        return (yield from perform(call))

    def record_failure(self, key: str, error: AwsError, *, final: bool = True) -> KeyEvent:
        """What a call that is no use repeating (now, where it is not final) comes to."""
        return StepFailed(*self.user, key, "read", error.code, error.message, error.request_id, final=final)

    def _append(self, event: KeyEvent, *, take: bool) -> None:
        deactivates = isinstance(event, WriteIntended) and event.status == "Inactive"
        starts = deactivates or isinstance(event, RotationIntended)
        self.context.ledger.append(
            self.run.id,
            kind_of(event),
            event_body(event),
            at=self.context.clock.now(),
            claim=self.claim,
            bump_epoch=take,
            unless_last=(STOPS, STARTS) if starts else None,
        )


@dataclass(frozen=True)
class LongCall(Generic[T]):
    """A call of the outside that may take so many seconds, whatever the others are given."""

    call: Callable[[], T]
    deadline: float

    def __call__(self) -> T:
        """Make it."""
        return self.call()


def perform(call: Callable[[], T]) -> StepCoroutine[T]:
    """Let a call of AWS be made, beside those of other users; raises what it raises."""
    result: T = yield call
    return result


def listing_of(user: User) -> Listing:
    """A user's keys and their status."""
    return {key.id: key.status for key in user.keys if key.id} if isinstance(user.keys, tuple) else {}


def is_temporary(error: AwsError) -> bool:
    """True where the same call may succeed in a while."""
    return isinstance(error, SessionEndedError | ThrottledError) or may_have_happened(error)


def may_have_happened(error: AwsError) -> bool:
    """True where the call may or may not have taken effect: no answer, or none that can be trusted."""
    return isinstance(error, UnreachableError | FailedServiceError | MalformedResponseError)
