"""One step's way: read, choose again, store the intent, set, read back, record; and the way back.

Each function is a generator: it yields the seconds it wants to wait, 0 where another may go first, or a call
of AWS. So the waits and calls of many users overlap while one thread decides, a test interleaves them in
virtual time, and a crash is a generator that is never resumed: everything it needs to go on stands in the
ledger and in AWS.
"""

from datetime import datetime, timedelta
from typing import Literal

from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.errors import RefusedError
from sparekey.ledger.events import (
    AUTOMATIC,
    UNASKED,
    Because,
    Confirmed,
    Failed,
    Foreign,
    Gone,
    Held,
    Intent,
    Listing,
    NotReactivated,
    Resolved,
    SaidOfKey,
    Seen,
    Unseen,
    Unsure,
    Verdict,
    Watching,
    Written,
)
from sparekey.ledger.store import FencedError, StoppedError
from sparekey.model import ACTIVE, INACTIVE, Caller, User
from sparekey.plan import Step, never_reactivate
from sparekey.runs.change_windows import is_open
from sparekey.runs.context import AgainError, Hands, Turn, Work, answer, is_passing, is_unsure, listing_of
from sparekey.runs.probe_checks import not_green
from sparekey.runs.projection import Run, UserId
from sparekey.runs.revalidate import STALE, reason_not_to, written_since
from sparekey.runs.user_lookup import list_user

_NO_MORE = "the key no longer exists"


def carry_user(hands: Hands, run: Run, user: UserId, steps: tuple[Step, ...]) -> Work[None]:
    """Bring a user's steps from wherever the ledger left them to confirmed, held or failed."""
    yield from finish_reactivations(hands, run, user)
    for step in steps:
        yield from _carry_step(hands, run, user, step)


def _carry_step(hands: Hands, run: Run, user: UserId, step: Step) -> Work[None]:
    for wait in hands.patience.backoff:
        turn = Turn(hands, run, user)
        try:
            yield from _go_on(turn, step)
        except (StoppedError, _EndedError):
            return
        except (AgainError, FencedError):
            # Fenced: another worker or another run took the user; what it did will be in the ledger.
            yield wait
        except AwsError as error:
            turn.say_last(turn.failed(step.key, error))
            return
        else:
            return
    turn = Turn(hands, run, user)
    facts = turn.facts(step.key)
    if facts.pending:
        # An intent that is still in doubt stays open: "confirm" keeps it for whoever resumes the run.
        phase: Literal["write", "confirm"] = "confirm" if facts.intent else "write"
        turn.say_last(Failed(*user, step.key, phase, "", facts.why or "others were at work on this user"))


def _go_on(turn: Turn, step: Step) -> Work[None]:
    if _passed_on(turn, step.key):
        return
    facts = turn.facts(step.key)
    if facts.in_doubt is not None and facts.in_doubt.status == INACTIVE:
        yield from _resolve(turn, facts.in_doubt)
        facts = turn.facts(step.key)
    if facts.intent is not None:
        yield from _confirm(turn, facts.intent)
    elif facts.state in ("planned", "failed") and not facts.ours:
        yield from _switch_off(turn, step)
    if turn.facts(step.key).state == "confirmed":
        _begin_watch(turn, step)


def _passed_on(turn: Turn, key: str) -> bool:
    """True where a later run of ours has written the key: it is that run's now, and the ledger says so."""
    if not turn.facts(key).ours:
        return False
    other = written_since(turn.run.id, turn.user, key, turn.hands.ledger, turn.name)
    if not other:
        return False
    turn.say(Foreign(*turn.user, key, f"run {other} has set it since: it is that run's now", {}))
    return True


def _begin_watch(turn: Turn, step: Step) -> None:
    """From here on the probes look after the key, if there are any that speak for its user."""
    of = (*turn.user, step.key)
    seconds = turn.run.options.watch
    probes = turn.hands.probes.speaking_for(turn.run.policy, *turn.user)
    if probes and seconds > 0:
        now = turn.hands.clock.now()
        turn.say(Watching(*of, now, now + timedelta(seconds=seconds), probes))
    else:
        why = (
            "it was asked not to watch"
            if probes
            else "no probe speaks for this user: nothing notices a breakage"
        )
        turn.say(Verdict(*of, "unwatched", why))


def _switch_off(turn: Turn, step: Step) -> Work[None]:
    turn.check_going()
    seen = yield from turn.read((yield from list_user(turn, step.key)))
    if (yield from _repair(turn, seen)):
        return
    if turn.name != step.user and step.key in listing_of(seen):
        turn.say(_renamed(turn, step))
        return
    hands, run = turn.hands, turn.run
    if not is_open(run.options.windows, hands.clock.now()):
        raise StoppedError("the change window has closed")
    callers: tuple[Caller, ...] = (run.caller, hands.caller)
    if hands.caller_now:
        callers = (*callers, (yield from turn.patiently(hands.caller_now)))
    said = reason_not_to(run, step, seen, hands.clock.now(), callers, hands.ledger)
    said = said or (yield from _probes_hold(turn, step))
    if said is not None:
        turn.say(said)
        return
    yield 0
    intent = turn.take(step.key, "Inactive", "apply", listing_of(seen), step.why)
    yield 0
    yield from _set(turn, intent)
    yield from _confirm(turn, intent)


def _renamed(turn: Turn, step: Step) -> Held:
    """The plan was agreed to for another name: exemptions, rotators and probes go by names."""
    of = (step.account, step.user, step.key)
    why = f"its user was renamed to {turn.name} after the plan was made"
    return Held(*of, "renamed", why, "make a new plan")


def _probes_hold(turn: Turn, step: Step) -> Work[Held | None]:
    """A step starts only where its probes are green."""
    of = (step.account, step.user, step.key)
    found = yield from not_green(turn.hands, turn.run, turn.user)
    if found is None:
        return None
    name, reading = found
    what = "could not be asked" if reading.green is None else "was red before anything was changed"
    return Held(
        *of, "probe-not-green", f"probe {name} {what}: {reading.output}", "repair it, then plan again"
    )


def _set(turn: Turn, intent: Intent) -> Work[None]:
    """Make the call unless the turn is over; raises AgainError where it may not have happened."""
    of = (intent.account, intent.user, intent.key)

    def call() -> str:
        turn.check()  # as late as can be: the call may have waited for others
        return turn.gateway.set_status(turn.name, intent.key, intent.status)

    try:
        request = yield from answer(call)
    except AwsError as error:
        # Not found: the user was renamed, or the key deleted, since the listing; the next one finds out.
        again = is_passing(error) or isinstance(error, NotFoundError)
        turn.say(_refused(intent, error, final=not again and intent.because not in UNASKED))
        if again:
            raise AgainError from error
        raise _EndedError(error.message) from error
    try:
        turn.say(Written(*of, intent.status, request))
    except FencedError:
        yield from _late(turn, intent)
        raise


class _EndedError(FencedError):
    """What there is to say is in the ledger; this step goes no further."""


def _refused(intent: Intent, error: AwsError, *, final: bool) -> SaidOfKey:
    of = (intent.account, intent.user, intent.key)
    if is_unsure(error):
        return Unsure(*of, intent.status, error.code, error.message)
    return Failed(*of, "write", error.code, error.message, error.request_id, final=final)


def _late(turn: Turn, intent: Intent) -> Work[None]:
    """Our write arrived after the turn was over: if the key was meant to come back, bring it back."""
    facts = turn.facts(intent.key)
    wanted_back = not facts.ours or (facts.intent is not None and facts.intent.status == ACTIVE)
    if intent.status == INACTIVE and wanted_back:
        yield from reactivate(turn.hands, turn.run, turn.user, intent.key, "late-write")


def _confirm(turn: Turn, intent: Intent) -> Work[None]:
    """List until several listings agree; a user seen without an active key gets back what we switched off."""
    patience = turn.hands.patience
    agreed, waited = 0, 0.0
    while True:
        seen = yield from list_user(turn, intent.key)
        if intent.status == INACTIVE and (yield from _repair(turn, seen)):
            return
        status = listing_of(seen).get(intent.key)
        agreed = agreed + 1 if status == intent.status else 0
        said = _what_is_confirmed(intent, listing_of(seen), agreed, patience.agree)
        if said is None and agreed == 0 and waited >= patience.give_up:
            why = f"{patience.give_up:g} s after it was set {intent.status}, listings still show it {status}"
            final = intent.because not in UNASKED
            said = Failed(*turn.user, intent.key, "confirm", "", why, final=final)
        if said is not None:
            turn.say(said)
            return
        yield patience.pause
        waited += patience.pause
        turn.check()


def _what_is_confirmed(intent: Intent, listing: Listing, agreed: int, enough: int) -> SaidOfKey | None:
    of = (intent.account, intent.user, intent.key)
    if intent.key not in listing:
        return Gone(*of, _NO_MORE)
    return Confirmed(*of, intent.status, agreed, listing) if agreed >= enough else None


def _resolve(turn: Turn, intent: Intent) -> Work[None]:
    """Ask AWS what became of a write whose answer is not in the ledger, and record what it says.

    Listings that show the old status may be stale: they are believed once a confirmation would be given up.
    """
    patience = turn.hands.patience
    agreed, last, waited = 0, "", 0.0
    while True:
        seen = yield from list_user(turn, intent.key)
        says = listing_of(seen).get(intent.key, "")
        agreed, last = (agreed + 1 if says == last else 1), says
        if agreed >= patience.agree and (says == intent.status or waited >= patience.give_up):
            break
        yield patience.pause
        waited += patience.pause
    if last:
        turn.say(Resolved(*turn.user, intent.key, intent.status, last, listing_of(seen)))
    else:
        turn.say(Gone(*turn.user, intent.key, _NO_MORE))


def _repair(turn: Turn, seen: User) -> Work[bool]:
    """Where a listing shows no active key, reactivate at once what this run switched off; True if it did."""
    if seen.active_keys:
        return False
    mine = [key for key, facts in turn.all_facts().items() if facts.ours]
    for key in mine:
        yield from reactivate(turn.hands, turn.run, turn.user, key, "no-active-key")
    return not all(never_reactivates(turn.run, turn.user, key) for key in mine)


def finish_reactivations(hands: Hands, run: Run, user: UserId) -> Work[None]:
    """Complete what an undo, rollback or repair had begun before it was cut off or failed."""
    for key, facts in Turn(hands, run, user).all_facts().items():
        if facts.coming_back is not None:
            yield from reactivate(hands, run, user, key, facts.coming_back.because, facts.coming_back.why)


def reactivate(hands: Hands, run: Run, user: UserId, key: str, because: Because, why: str = "") -> Work[None]:
    """Set a key active again that this run may have switched off, and confirm it.

    A key that somebody else was seen to change since is not ours and is left alone, and so is one that only a
    person may reactivate, unless a person asks for it. What nobody asked for is never given up: its failure is
    not final.
    """
    if because in AUTOMATIC and (barred := never_reactivates(run, user, key)):
        leave_inactive(Turn(hands, run, user), key, because, f"{why}; " if why else "", barred)
        return
    final = because not in UNASKED
    for wait in hands.patience.backoff:
        turn = Turn(hands, run, user)
        try:
            yield from _switch_on(turn, key, because, why)
        except _EndedError:
            return
        except (AgainError, FencedError):
            yield wait
        except AwsError as error:
            turn.say_last(turn.failed(key, error, final=final))
            return
        except RefusedError as error:  # the account cannot be entered
            turn.say_last(Failed(*user, key, "read", "", error.message, final=final))
            return
        else:
            return
    turn = Turn(hands, run, user)
    if turn.facts(key).coming_back is not None:
        why = "no try to reactivate it succeeded"
        turn.say_last(Failed(*user, key, "write", "", why, final=final))


def never_reactivates(run: Run, user: UserId, key: str) -> str:
    """Why only a person may reactivate a key of the run; empty where sparekey may."""
    mine = (step for step in run.plan.deactivations if (step.account, step.user, step.key) == (*user, key))
    return next((never_reactivate(step, run.plan.asked, run.policy) for step in mine), "")


def leave_inactive(turn: Turn, key: str, because: Because, why: str, barred: str) -> None:
    """Record once that a key stays inactive, and how a person reactivates it."""
    if turn.facts(key).not_reactivated == because or not turn.facts(key).ours:
        return
    way = f"only a person may reactivate it ({barred}): sparekey undo {turn.run.id} --key {key}"
    turn.say_last(NotReactivated(*turn.user, key, because, f"{why}it stays Inactive; {way}"))


def hold_back(hands: Hands, run: Run, user: UserId, key: str, why: str) -> Work[None]:
    """Let a run never deactivate a key that it has not deactivated yet; raises FencedError."""
    release = "make a new plan"
    for wait in (*hands.patience.backoff, 0):
        turn = Turn(hands, run, user)
        facts = turn.facts(key)
        if facts.ours or facts.state not in ("planned", "failed"):
            return
        try:
            turn.take_over(Held(*user, key, "undo", why, release))
        except FencedError:
            yield wait
        else:
            return
    raise FencedError(
        f"others were at work on user {user[1]} all the time: it is not certain that {key} stays active",
        f"`sparekey stop {run.id}`, then undo it again.",
    )


def _switch_on(turn: Turn, key: str, because: Because, why: str) -> Work[None]:
    facts = turn.facts(key)
    if (not facts.ours and because != "late-write") or _passed_on(turn, key):
        return
    if facts.written and facts.intent is not None and facts.intent.status == ACTIVE:
        yield from _confirm(turn, facts.intent)
        return
    seen = yield from list_user(turn, key)
    listing = listing_of(seen)
    if key not in listing:
        turn.say(Gone(*turn.user, key, _NO_MORE))
        return
    if turn.name != turn.user[1] and _passed_on(turn, key):
        return  # by a run that was planned under the new name
    if facts.in_doubt is not None:
        lost = "no answer to this is on record: the key is set active whether or not it happened"
        turn.say(Unsure(*turn.user, key, facts.in_doubt.status, "", lost))
    intent = turn.take(key, "Active", because, listing, why)
    yield 0
    yield from _set(turn, intent)
    yield from _confirm(turn, intent)


def note_foreign(turn: Turn, seen: User) -> Work[None]:
    """Record every key of ours that listings agree to show active: somebody else reactivated it."""
    now, patience = turn.hands.clock.now(), turn.hands.patience
    confirmed = {
        key: facts.confirmed_at for key, facts in turn.all_facts().items() if facts.ours and not facts.intent
    }
    long_ago = {key for key, at in confirmed.items() if at is not None and now - at > STALE}
    theirs = long_ago & _active(seen)
    for _ in range(patience.agree - 1):
        if not theirs:
            return
        yield patience.pause
        seen = yield from list_user(turn, min(theirs))
        theirs &= _active(seen)
    for key in sorted(theirs):
        why = "somebody else reactivated it since: it is theirs now, and undo leaves it alone"
        turn.say_last(Foreign(*turn.user, key, why, listing_of(seen)))


def _active(seen: User) -> set[str]:
    return {key for key, status in listing_of(seen).items() if status == ACTIVE}


def look_at(hands: Hands, run: Run, user: UserId, steps: tuple[tuple[Step, datetime], ...]) -> Work[None]:
    """List a watched user's keys: repair, see what others changed, and whether the key that stays is used."""
    turn = Turn(hands, run, user)
    try:
        seen = yield from list_user(turn, steps[0][0].key)
        if (yield from _repair(turn, seen)):
            return
        yield from note_foreign(turn, seen)
        keep = steps[0][0].keep or ""
        used = yield from turn.patiently(lambda: turn.gateway.last_used(keep))
    except AwsError as error:
        # The next look may tell; meanwhile what the probes say counts.
        for step, _ in steps:
            turn.say_last(Unseen(*turn.user, step.key, error.code, error.message))
        return
    for step, since in steps:
        if used.at is not None and used.at > since:
            turn.say_last(Seen(*turn.user, step.key, keep, used.at))
