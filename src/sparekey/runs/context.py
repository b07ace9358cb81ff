"""One worker's turn at one user: what it is done with, and the claim under which it may write."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import msgspec

from sparekey.aws.access_keys import KeyReader, KeyWriter
from sparekey.aws.errors import (
    AwsError,
    BadAnswerError,
    FailedServiceError,
    SessionEndedError,
    ThrottledError,
    UnreachableError,
)
from sparekey.clock import Clock
from sparekey.ledger.events import (
    STARTS,
    STOPS,
    Because,
    Deleting,
    Failed,
    Held,
    Intent,
    Listing,
    Renamed,
    Said,
    SaidOfKey,
    Status,
    kind_of,
    write,
)
from sparekey.ledger.store import Claim, Entry, FencedError, Lease, Ledger
from sparekey.model import AccessKey, Caller, User, Value
from sparekey.policy import Policy
from sparekey.probes import Reading
from sparekey.runs.projection import KeyFacts, Run, UserId, fold_keys

T = TypeVar("T")
# Work yields the seconds it wants to wait, 0 where others may go first, or a call of AWS, whose answer it is
# given; see steps.py and drive.py.
Asked = float | Callable[[], Any]
Work = Generator[Asked, Any, T]


class Gateway(KeyReader, KeyWriter, Protocol):
    """One account's keys, to read and to write."""


class Patience(Value, frozen=True):
    """How a change is confirmed: `agree` equal listings `pause` seconds apart, given up after `give_up`.

    `backoff` are the waits, in seconds, between tries of a call that was throttled or cut off.
    """

    agree: int = 3
    pause: float = 2.0
    give_up: float = 60.0
    backoff: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)


_DEFAULT_PATIENCE = Patience()


class Prober(Protocol):
    """The health checks that a policy names."""

    def speaking_for(self, policy: Policy, account: str, user: str) -> tuple[str, ...]:
        """The names of the probes that tell whether a user's applications work."""
        ...

    def cadence(self, policy: Policy, name: str) -> timedelta:
        """How often a probe is asked."""
        ...

    def deadline(self, policy: Policy, name: str) -> float:
        """Seconds after which a probe that was asked counts as not answering."""
        ...

    def ask(self, policy: Policy, name: str) -> Reading:
        """Ask one probe now."""
        ...


class NoProbes:
    """No health checks at all."""

    def speaking_for(self, _policy: Policy, _account: str, _user: str) -> tuple[str, ...]:
        """None."""
        return ()

    def cadence(self, _policy: Policy, name: str) -> timedelta:
        """There is no such probe."""
        raise KeyError(name)

    def deadline(self, _policy: Policy, name: str) -> float:
        """There is no such probe."""
        raise KeyError(name)

    def ask(self, _policy: Policy, name: str) -> Reading:
        """There is no such probe."""
        raise KeyError(name)


_NO_PROBES = NoProbes()


@dataclass(frozen=True)
class Hands:
    """What the work is done with, all of it injected; `caller` is who this worker is to AWS.

    `caller_now` asks AWS again who signs, just before a deactivation; None where nobody could have changed.
    `calls` is how many calls of AWS may be under way at once for one piece of work.
    """

    ledger: Ledger
    clock: Clock
    gateway_for: Callable[[str], Gateway]
    caller: Caller
    worker: str = "here"
    patience: Patience = _DEFAULT_PATIENCE
    probes: Prober = _NO_PROBES
    calls: int = 1
    caller_now: Callable[[], Caller] | None = None

    def note(self, run: str, said: Said, *, lease: Lease | None = None) -> Entry:
        """Append something about the run itself; raises FencedError where the lease was taken over."""
        return self.ledger.append(run, kind_of(said), write(said), at=self.clock.now(), lease=lease)


class AgainError(Exception):
    """The write may not have happened: go through the whole step again after a wait."""


class Turn:
    """The right to write to one user until somebody else takes it.

    `user` is who the plan names, under whom the ledger files everything; `name` is what AWS calls the user now.
    """

    def __init__(self, hands: Hands, run: Run, user: UserId) -> None:
        self.hands, self.run, self.user = hands, run, user
        # Read before AWS is: whoever writes to the user in between ends this claim.
        self.claim = hands.ledger.claim(*user)
        self.name = user[1]

    @property
    def gateway(self) -> Gateway:
        """The account's keys; entering the account may ask AWS, so it belongs into a call."""
        return self.hands.gateway_for(self.user[0])

    def facts(self, key: str) -> KeyFacts:
        """What the run's ledger says of one of the user's keys."""
        return self.all_facts().get(key, KeyFacts())

    def all_facts(self) -> dict[str, KeyFacts]:
        """What the run's ledger says of the user's keys."""
        entries = self.hands.ledger.entries(self.run.id, account=self.user[0], user=self.user[1])
        for entry in entries:
            if entry.kind == Renamed.__struct_config__.tag:
                self.name = str(entry.body["name"])
        return {key: known for (_, _, key), known in fold_keys(entries).items()}

    def say(self, said: SaidOfKey) -> None:
        """Append what happened to a key; raises FencedError where the turn is over."""
        self._append(said, take=False)

    def say_last(self, said: SaidOfKey) -> None:
        """Append it unless the turn is over: then whoever has taken over says what happened."""
        try:
            self._append(said, take=False)
        except FencedError:
            return

    def take(self, key: str, status: Status, because: Because, before: Listing, why: str) -> Intent:
        """Store the intent of a write, which ends every other turn; raises FencedError or StoppedError."""
        intent = Intent(
            *self.user, key, status, because, self.claim.epoch + 1, self.hands.worker, before, why
        )  # fmt: skip
        self._append(intent, take=True)
        self.claim = Claim(*self.user, intent.epoch)
        return intent

    def take_over(self, said: Deleting | Held) -> None:
        """Store what becomes of a key from here on, which ends every other turn; raises FencedError."""
        self._append(said, take=True)
        self.claim = Claim(*self.user, self.claim.epoch + 1)

    def check(self) -> None:
        """Raise FencedError where the turn is over."""
        if not self.hands.ledger.holds(self.claim):
            raise FencedError(f"user {self.user[1]} was taken over by another worker")

    def check_going(self) -> None:
        """Raise StoppedError where nothing more of this run is to be deactivated: AWS need not be asked."""
        self.hands.ledger.check_going(self.run.id, (STOPS, STARTS))

    def list_keys(self) -> Work[User]:
        """The keys of whoever has the user's name, last use not read; raises NotFoundError where nobody has."""
        keys = yield from self.patiently(lambda: self.gateway.list_keys(self.name))
        return User(self.user[1], "", keys)

    def read(self, listed: User) -> Work[User]:
        """A user's keys with the last use of the active ones."""
        keys: tuple[AccessKey, ...] = ()
        for key in listed.keys if isinstance(listed.keys, tuple) else ():
            keys += ((yield from self._with_last_use(key)),)
        return User(self.user[1], "", keys)

    def _with_last_use(self, key: AccessKey) -> Work[AccessKey]:
        name = key.id
        if name is None or not key.active:
            return key
        used = yield from self.patiently(lambda: self.gateway.last_used(name))
        return msgspec.structs.replace(key, last_used=used)

    def patiently(self, call: Callable[[], T]) -> Work[T]:
        """Make a reading call; one that was throttled or cut off is tried again after growing waits."""
        for wait in self.hands.patience.backoff:
            try:
                return (yield from answer(call))
            except AwsError as error:
                if not is_passing(error):
                    raise
            yield wait
        return (yield from answer(call))

    def failed(self, key: str, error: AwsError, *, final: bool = True) -> SaidOfKey:
        """What a call that is no use repeating (now, where it is not final) comes to."""
        return Failed(*self.user, key, "read", error.code, error.message, error.request_id, final=final)

    def _append(self, said: SaidOfKey, *, take: bool) -> None:
        deactivates = isinstance(said, Intent) and said.status == "Inactive"
        self.hands.ledger.append(
            self.run.id,
            kind_of(said),
            write(said),
            at=self.hands.clock.now(),
            claim=self.claim,
            take=take,
            unless=(STOPS, STARTS) if deactivates else None,
        )


def answer(call: Callable[[], T]) -> Work[T]:
    """Let a call of AWS be made, beside those of other users; raises what it raises."""
    given: T = yield call
    return given


def listing_of(user: User) -> Listing:
    """A user's keys and their status."""
    return {key.id: key.status for key in user.keys if key.id} if isinstance(user.keys, tuple) else {}


def is_passing(error: AwsError) -> bool:
    """True where the same call may succeed in a while."""
    return isinstance(error, SessionEndedError | ThrottledError) or is_unsure(error)


def is_unsure(error: AwsError) -> bool:
    """True where the call may or may not have been carried out: no answer, or none that can be trusted."""
    return isinstance(error, UnreachableError | FailedServiceError | BadAnswerError)
