"""One step's way: read, choose again, store the intent, set, read back, record; and the way back.

Each function is a generator: it yields the seconds it wants to wait, 0 where another may go first. So one
thread overlaps the waits of many users, a test interleaves them in virtual time, and a crash is a generator
that is never resumed: everything it needs to go on stands in the ledger and in AWS.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeVar

import msgspec

from sparekey.aws.errors import (
    AwsError,
    BadAnswerError,
    FailedServiceError,
    NotFoundError,
    ThrottledError,
    UnreachableError,
)
from sparekey.aws.keys import KeyReader, KeyWriter
from sparekey.choose import choose
from sparekey.clock import Clock
from sparekey.ledger import Claim, FencedError, Ledger, StoppedError
from sparekey.model import ACTIVE, INACTIVE, AccessKey, Caller, User, Value
from sparekey.plan import Step, steps_of
from sparekey.run.entries import (
    STARTS,
    STOPS,
    Already,
    Because,
    Confirmed,
    Failed,
    Foreign,
    Gone,
    Held,
    Intent,
    Listing,
    OfKey,
    Resolved,
    Status,
    Unsure,
    Written,
    kind_of,
    write,
)
from sparekey.run.record import KeyFacts, Run, UserId, fold_keys

T = TypeVar("T")
Work = Generator[float, None, T]

# IAM promises no bound on stale reads; ours are trusted against a listing for this long.
STALE = timedelta(minutes=10)
_KEY_KINDS = (
    "intent", "written", "unsure", "resolved", "failed", "confirmed", "foreign", "gone",
)  # fmt: skip


class Gateway(KeyReader, KeyWriter, Protocol):
    """One account's keys, to read and to write."""


class Patience(Value, frozen=True):
    """How a change is confirmed: `agree` equal listings `pause` seconds apart, given up after `give_up` seconds.

    `backoff` are the waits between tries of a call that was throttled or cut off.
    """

    agree: int = 3
    pause: float = 2.0
    give_up: float = 60.0
    backoff: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Hands:
    """What the work is done with, all of it injected."""

    ledger: Ledger
    clock: Clock
    gateway_for: Callable[[str], Gateway]
    caller: Caller
    worker: str = "here"
    patience: Patience = field(default=Patience())

    def say(
        self, run: Run, said: OfKey, *, claim: Claim, take: bool = False, unless_stopped: bool = False
    ) -> None:
        """Append what happened to a key, under the claim to its user."""
        self.ledger.append(
            run.id,
            kind_of(said),  # type: ignore[arg-type]  # OfKey is the base of the union's members for a key
            write(said),  # type: ignore[arg-type]
            at=self.clock.now(),
            claim=claim,
            take=take,
            unless=(STOPS, STARTS) if unless_stopped else None,
        )

    def facts(self, run: Run, user: UserId) -> dict[str, KeyFacts]:
        """What this run's ledger says of a user's keys, by key."""
        entries = self.ledger.entries(run.id, account=user[0], user=user[1])
        return {key: known for (_, _, key), known in fold_keys(entries).items()}


class _AgainError(Exception):
    """The write may not have happened: go through the whole step again after a wait."""


def carry_user(hands: Hands, run: Run, user: UserId, steps: tuple[Step, ...]) -> Work[None]:
    """Bring a user's steps from wherever the ledger left them to confirmed, held or failed."""
    for step in steps:
        yield from _carry_step(hands, run, step, user)


def _carry_step(hands: Hands, run: Run, step: Step, user: UserId) -> Work[None]:
    for wait in hands.patience.backoff:
        claim = hands.ledger.claim(*user)
        try:
            yield from _go_on(hands, run, step, user)
            return
        except StoppedError:
            return
        except (_AgainError, FencedError):
            # Fenced: another worker or another run took the user; what it did is in the ledger by now or soon.
            yield wait
        except AwsError as error:
            _record_failure(hands, run, step, claim, error)
            return
    facts = hands.facts(run, user).get(step.key, KeyFacts())
    if facts.pending and not facts.intent:
        _say_quietly(
            hands, run, user,
            Failed(*user, step.key, "write", "", "no try succeeded, or others were at work on this user"),
        )  # fmt: skip


def _say_quietly(hands: Hands, run: Run, user: UserId, said: OfKey) -> None:
    """Record something that nobody needs if the user was taken over in this very moment."""
    try:
        hands.say(run, said, claim=hands.ledger.claim(*user))
    except FencedError:
        return


def _record_failure(hands: Hands, run: Run, step: Step, claim: Claim, error: AwsError) -> None:
    said: OfKey
    if is_gone(error):
        said = Gone(step.account, step.user, step.key, error.message)
    else:
        said = Failed(step.account, step.user, step.key, "read", error.code, error.message, error.request_id)
    del claim
    _say_quietly(hands, run, (step.account, step.user), said)


def _go_on(hands: Hands, run: Run, step: Step, user: UserId) -> Work[None]:
    yield from finish_reactivations(hands, run, user)
    facts = hands.facts(run, user).get(step.key, KeyFacts())
    if facts.in_doubt is not None:
        yield from _resolve(hands, run, facts.in_doubt)
        facts = hands.facts(run, user).get(step.key, KeyFacts())
    if facts.intent is not None:
        yield from _confirm(hands, run, facts.intent, hands.ledger.claim(*user))
    elif facts.pending or facts.state == "failed":
        yield from _switch_off(hands, run, step, user)


def finish_reactivations(hands: Hands, run: Run, user: UserId) -> Work[None]:
    """Complete what an undo, rollback or repair had begun before it was cut off."""
    for key, facts in hands.facts(run, user).items():
        if facts.intent is not None and facts.intent.status == ACTIVE:
            yield from reactivate(hands, run, user, key, facts.intent.because, facts.intent.why)
        elif facts.retry and facts.ours and facts.state == "failed":
            yield from reactivate(hands, run, user, key, "undo", facts.why)


def _switch_off(hands: Hands, run: Run, step: Step, user: UserId) -> Work[None]:
    claim = hands.ledger.claim(*user)  # before the reading: whoever writes in between ends it
    seen = yield from _read_user(hands, step)
    if (yield from _repair(hands, run, user, seen)):
        return
    said = _decide(hands, run, step, seen)
    if said is not None:
        hands.say(run, said, claim=claim)
        return
    yield 0
    intent = Intent(
        *user, step.key, INACTIVE, "apply", claim.epoch + 1, hands.worker, _listing(seen), step.why
    )  # fmt: skip
    hands.say(run, intent, claim=claim, take=True, unless_stopped=True)
    claim = Claim(*user, intent.epoch)
    yield 0
    yield from _set(hands, run, intent, claim)
    yield from _confirm(hands, run, intent, claim)


def _read_user(hands: Hands, step: Step) -> Work[User]:
    """The user's keys as they are now, with the last use of the active ones."""
    gateway = hands.gateway_for(step.account)
    keys = yield from _patiently(hands, lambda: gateway.list_keys(step.user))
    read: list[AccessKey] = []
    for key in keys:
        if key.id is not None and key.active:
            used = yield from _patiently(hands, lambda name=key.id: gateway.last_used(name))  # type: ignore[misc]
            read.append(msgspec.structs.replace(key, last_used=used))
        else:
            read.append(key)
    return User(step.user, "", tuple(read))


def _patiently(hands: Hands, call: Callable[[], T]) -> Work[T]:
    """Make a reading call; one that was throttled or cut off is tried again after growing waits."""
    for wait in hands.patience.backoff:
        yield 0
        try:
            return call()
        except AwsError as error:
            if not is_passing(error):
                raise
        yield wait
    return call()


def _listing(user: User) -> Listing:
    keys = user.keys if isinstance(user.keys, tuple) else ()
    return {key.id: key.status for key in keys if key.id}


def _decide(hands: Hands, run: Run, step: Step, seen: User) -> OfKey | None:
    """Why the step must not be taken as planned; None where the same step results again."""
    listing = _listing(seen)
    of = (step.account, step.user, step.key)
    if step.key not in listing:
        return Gone(*of, "the key no longer exists")
    if not any(key.id == step.key and key.active for key in seen.active_keys):
        return Already(*of, listing)
    if step.keep is None or listing.get(step.keep) != ACTIVE:
        return Held(*of, "keep-not-active", f"{step.keep}, which was to stay, is not active now", _PLAN_AGAIN)
    other = _other_runs_hold(hands, run, step)
    if other:
        return other
    for caller in {run.caller, hands.caller}:
        held = _choose_again(run, step, seen, caller, hands)
        if held:
            return held
    return _newer_use(step, seen)


_PLAN_AGAIN = "make a new plan"


def _other_runs_hold(hands: Hands, run: Run, step: Step) -> Held | None:
    """The key to stay may be on its way out by another run of ours, which a stale listing would hide."""
    said = hands.ledger.entries_of_user(step.account, step.user, _KEY_KINDS)
    for other in sorted({entry.run for entry in said} - {run.id}):
        keys = fold_keys(entry for entry in said if entry.run == other)
        facts = keys.get((step.account, step.user, step.keep or ""), KeyFacts())
        fresh = facts.changed_at is not None and hands.clock.now() - facts.changed_at < STALE
        if facts.intent is not None or (facts.ours and fresh):
            why = f"run {other} is at work on {step.keep}, which was to stay"
            return Held(
                step.account, step.user, step.key, "other-run", why, f"finish or undo run {other} first"
            )
    return None


def _choose_again(run: Run, step: Step, seen: User, caller: Caller, hands: Hands) -> Held | None:
    usages = {usage.key: usage for usage in run.plan.usages}
    now = hands.clock.now()
    choice = choose(
        step.account, seen, run.policy, now, asked=run.plan.asked, caller=caller, usages=usages
    )  # fmt: skip
    again = [same for same in steps_of(step.account, seen, choice) if same.key == step.key] if choice else []
    of = (step.account, step.user, step.key)
    if not again:
        why = (
            "chosen again just before the write, this key is the one that stays"
            if choice
            else "it is the only active key now"
        )
        return Held(*of, "changed", why, _PLAN_AGAIN)
    if again[0].action == "held":
        return Held(*of, again[0].reason, again[0].why, again[0].release)
    if (again[0].keep, again[0].reason) != (step.keep, step.reason):
        why = f"chosen again just before the write, {again[0].keep} would stay, because: {again[0].why}"
        return Held(*of, "changed", why, _PLAN_AGAIN)
    return None


def _newer_use(step: Step, seen: User) -> Held | None:
    # A key that a person retires by --force is in use by nature; for every other, use since the plan speaks
    # against it.
    if step.reason == "forced":
        return None
    planned = step.preconditions.last_used.get(step.key)
    used = next((key.last_used.at for key in seen.active_keys if key.id == step.key), None)
    if used is not None and (planned is None or used > planned):
        why = f"it was used at {used:%Y-%m-%d %H:%M} UTC, after the plan was made"
        return Held(step.account, step.user, step.key, "newer-use", why, _PLAN_AGAIN)
    return None


def _set(hands: Hands, run: Run, intent: Intent, claim: Claim) -> Work[None]:
    """Make the call, unless the user was taken over; raises _AgainError where it may not have happened."""
    if not hands.ledger.holds(claim):
        raise FencedError(f"user {intent.user} was taken over")
    of = (intent.account, intent.user, intent.key)
    try:
        request = hands.gateway_for(intent.account).set_status(intent.user, intent.key, intent.status)
    except AwsError as error:
        _record_refusal(hands, run, intent, claim, error)
        raise _AgainError from error
    yield 0
    try:
        hands.say(run, Written(*of, intent.status, request), claim=claim)
    except FencedError:
        yield from _late(hands, run, intent)
        raise


def _record_refusal(hands: Hands, run: Run, intent: Intent, claim: Claim, error: AwsError) -> None:
    """Record a call that failed; raises the error where another try is no use."""
    of = (intent.account, intent.user, intent.key)
    if is_unsure(error):
        hands.say(run, Unsure(*of, intent.status, error.code, error.message), claim=claim)
        return
    passing = is_passing(error)
    said: OfKey
    if is_gone(error):
        said = Gone(*of, error.message)
    else:
        said = Failed(*of, "write", error.code, error.message, error.request_id, final=not passing)
    hands.say(run, said, claim=claim)
    if not passing:
        raise FencedError("recorded")


def _late(hands: Hands, run: Run, intent: Intent) -> Work[None]:
    """Our write arrived after the user was taken over: if it was meant to come back, bring it back."""
    user = (intent.account, intent.user)
    facts = hands.facts(run, user).get(intent.key, KeyFacts())
    wanted_back = not facts.ours or (facts.intent is not None and facts.intent.status == ACTIVE)
    if intent.status == INACTIVE and wanted_back:
        yield from reactivate(hands, run, user, intent.key, "late-write", "")


def _confirm(hands: Hands, run: Run, intent: Intent, claim: Claim) -> Work[None]:
    """List until several listings agree; a user seen without an active key gets back what we switched off."""
    user = (intent.account, intent.user)
    gateway = hands.gateway_for(intent.account)
    deadline = hands.clock.now() + timedelta(seconds=hands.patience.give_up)
    agreed = 0
    while True:
        keys = yield from _patiently(hands, lambda: gateway.list_keys(intent.user))
        seen = User(intent.user, "", keys)
        if intent.status == INACTIVE and (yield from _repair(hands, run, user, seen)):
            return
        status = _listing(seen).get(intent.key)
        if status is None:
            hands.say(run, Gone(*user, intent.key, "the key no longer exists"), claim=claim)
            return
        agreed = agreed + 1 if status == intent.status else 0
        if agreed >= hands.patience.agree:
            hands.say(
                run, Confirmed(*user, intent.key, intent.status, agreed, _listing(seen)), claim=claim
            )  # fmt: skip
            return
        if hands.clock.now() >= deadline:
            why = f"listings still show it {status} {hands.patience.give_up:g} s after it was set {intent.status}"
            hands.say(run, Failed(*user, intent.key, "confirm", "", why), claim=claim)
            return
        yield hands.patience.pause
        if not hands.ledger.holds(claim):
            raise FencedError(f"user {intent.user} was taken over")


def _resolve(hands: Hands, run: Run, intent: Intent) -> Work[None]:
    """Ask AWS what became of a write whose answer is not in the ledger, and record what it says."""
    user = (intent.account, intent.user)
    claim = hands.ledger.claim(*user)
    gateway = hands.gateway_for(intent.account)
    agreed, last = 0, ""
    listing: Listing = {}
    while agreed < hands.patience.agree:
        if agreed:
            yield hands.patience.pause
        keys = yield from _patiently(hands, lambda: gateway.list_keys(intent.user))
        listing = _listing(User(intent.user, "", keys))
        says = listing.get(intent.key, "")
        agreed, last = (agreed + 1, says) if says == last else (1, says)
    if last:
        hands.say(run, Resolved(*user, intent.key, intent.status, last, listing), claim=claim)
    else:
        hands.say(run, Gone(*user, intent.key, "the key no longer exists"), claim=claim)


def _repair(hands: Hands, run: Run, user: UserId, seen: User) -> Work[bool]:
    """Where a listing shows no active key, reactivate at once what this run switched off; True if it did."""
    if seen.active_keys:
        return False
    mine = [key for key, facts in hands.facts(run, user).items() if facts.ours]
    for key in mine:
        yield from reactivate(hands, run, user, key, "no-active-key", "", seen)
    return bool(mine)


def reactivate(
    hands: Hands, run: Run, user: UserId, key: str, because: Because, why: str, seen: User | None = None
) -> Work[None]:
    """Set a key active again that this run may have switched off, and confirm it.

    A key that somebody else has changed since is left alone, and the ledger says so.
    """
    for wait in (*hands.patience.backoff, 0.0):
        try:
            yield from _switch_on(hands, run, user, key, because, why, seen)
            return
        except (_AgainError, FencedError):
            yield wait
        except AwsError as error:
            said: OfKey
            if is_gone(error):
                said = Gone(*user, key, error.message)
            else:
                said = Failed(*user, key, "read", error.code, error.message, error.request_id)
            _say_quietly(hands, run, user, said)
            return


def _switch_on(
    hands: Hands, run: Run, user: UserId, key: str, because: Because, why: str, seen: User | None
) -> Work[None]:
    claim = hands.ledger.claim(*user)
    facts = hands.facts(run, user).get(key, KeyFacts())
    if not facts.ours and because != "late-write":
        return
    if facts.written and facts.intent is not None and facts.intent.status == ACTIVE:
        yield from _confirm(hands, run, facts.intent, claim)
        return
    if seen is None:
        gateway = hands.gateway_for(user[0])
        keys = yield from _patiently(hands, lambda: gateway.list_keys(user[1]))
        seen = User(user[1], "", keys)
    listing = _listing(seen)
    if key not in listing:
        hands.say(run, Gone(*user, key, "the key no longer exists"), claim=claim)
        return
    intent = Intent(*user, key, ACTIVE, because, claim.epoch + 1, hands.worker, listing, why)
    hands.say(run, intent, claim=claim, take=True)
    claim = Claim(*user, intent.epoch)
    yield 0
    yield from _set(hands, run, intent, claim)
    yield from _confirm(hands, run, intent, claim)


def note_foreign(hands: Hands, run: Run, user: UserId, seen: User) -> None:
    """Record every key of ours that a listing shows active: somebody else reactivated it."""
    listing = _listing(seen)
    claim = hands.ledger.claim(*user)
    for key, facts in hands.facts(run, user).items():
        settled = facts.intent is None and facts.ours and facts.confirmed_at is not None
        if settled and hands.clock.now() - facts.confirmed_at > STALE and listing.get(key) == ACTIVE:  # type: ignore[operator]
            why = "somebody else reactivated it since: it is theirs now, and undo leaves it alone"
            hands.say(run, Foreign(*user, key, why, listing), claim=claim)


def is_gone(error: AwsError) -> bool:
    """True where the user or key no longer exists."""
    return isinstance(error, NotFoundError)


def is_passing(error: AwsError) -> bool:
    """True where the same call may succeed in a while."""
    return isinstance(error, ThrottledError) or is_unsure(error)


def is_unsure(error: AwsError) -> bool:
    """True where the call may or may not have been carried out: no answer, or none that can be trusted."""
    return isinstance(error, UnreachableError | FailedServiceError | BadAnswerError)
