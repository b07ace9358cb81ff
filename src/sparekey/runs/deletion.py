"""Deleting keys for good: only what a run of ours deactivated long ago, and nobody used or changed since."""

from datetime import datetime, timedelta

from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.aws.key_deletion import KeyDeleter
from sparekey.errors import RefusedError
from sparekey.ledger.events import Deleted, Deleting, Kept, RootDeleted, RootDeleting, RootFailed, SaidOfKey
from sparekey.ledger.store import Ledger
from sparekey.model import AccessKey, LastUsed, User, Value
from sparekey.runs.context import Hands, Turn, listing_of
from sparekey.runs.projection import KeyFacts, RunFold, short
from sparekey.runs.revalidate import written_since
from sparekey.runs.scheduler import finish
from sparekey.runs.user_lookup import list_user
from sparekey.runs.worker import load_run

_AT_REST = ("confirmed", "settled", "unwatched", "deleting")


class Deletable(Value, frozen=True):
    """A key that may be deleted if AWS still says the same: when and by which run it was deactivated."""

    run: str
    account: str
    user: str
    key: str
    since: datetime


def deletable(
    ledger: Ledger, runs: tuple[str, ...], now: datetime, older_than: timedelta
) -> tuple[Deletable, ...]:
    """What our runs deactivated at least that long ago and have not written since, sorted."""
    found = [
        Deletable(run, *key, since)
        for run in runs
        for key, facts in RunFold(ledger.entries(run)).facts.items()
        if (since := _since(facts)) is not None and now - since >= older_than
        # A later run's date counts: the key may have been in use again in between.
        if not written_since(run, key[:2], key[2], ledger)
    ]
    return tuple(sorted(found, key=lambda entry: (entry.account, entry.user, entry.key, entry.run)))


def _since(facts: KeyFacts) -> datetime | None:
    return facts.confirmed_at if facts.ours and facts.state in _AT_REST else None


def delete(hands: Hands, what: Deletable, deleter: KeyDeleter) -> SaidOfKey:
    """Delete one key after asking AWS once more; returns what was put on record. Raises AwsError."""
    turn = Turn(hands, load_run(hands, what.run), (what.account, what.user))
    of = (what.account, what.user, what.key)
    began = turn.facts(what.key).state == "deleting"
    seen = _listed(turn, what.key)
    if began and what.key not in listing_of(seen):
        # The answer was lost; the deletion was not.
        return _say(turn, Deleted(*of, ""))
    why = _why_not(turn, seen, what)
    if why:
        return _say(turn, Kept(*of, why))
    turn.take_over(Deleting(*of, hands.worker, listing_of(seen)))
    try:
        request = deleter.delete_key(turn.name, what.key)
    except NotFoundError:
        if what.key in listing_of(_listed(turn, what.key)):
            raise  # its user was renamed this very moment; the next call goes on from here
        return _say(turn, Deleted(*of, ""))
    return _say(turn, Deleted(*of, request))


def _listed(turn: Turn, key: str) -> User:
    """The keys of the key's user, whatever the user is called now."""
    return finish(list_user(turn, key), turn.hands.clock)


def _say(turn: Turn, said: SaidOfKey) -> SaidOfKey:
    turn.say(said)
    return said


def _why_not(turn: Turn, seen: User, what: Deletable) -> str:
    other = written_since(what.run, turn.user, what.key, turn.hands.ledger, turn.name)
    if other:
        return f"run {other} has set it since"
    status = listing_of(seen).get(what.key)
    if status is None:
        return "it no longer exists"
    if status != "Inactive":
        return f"it is {status}: somebody else has changed it since"
    if not seen.active_keys:
        return "its user has no active key: it may be wanted back"
    used = turn.gateway.last_used(what.key)
    if used.state not in ("used", "never"):
        return "its last use could not be read"
    if used.at is not None and used.at > what.since:
        return f"it was used at {short(used.at)}, after it was deactivated at {short(what.since)}"
    return ""


def delete_root(
    hands: Hands,
    account: str,
    key: AccessKey,
    deleter: KeyDeleter,
    older_than: timedelta,
) -> str:
    """Delete a member account's root key whose last use was read and is old enough; returns the request id.

    A key never used is as old as its creation. Raises RefusedError, AwsError.
    """
    name = key.id or ""
    last = _last_root_use(key)
    if hands.clock.now() - last < older_than:
        raise RefusedError(f"root key {name} of account {account} was created or used at {short(last)}")
    chain = f"root-{account}"
    hands.note(chain, RootDeleting(account, name, last, hands.caller.arn))
    try:
        request = deleter.delete_key("", name)
    except AwsError as error:
        hands.note(chain, RootFailed(account, name, error.code, error.message, error.request_id))
        raise
    hands.note(chain, RootDeleted(account, name, request))
    return request


def _last_root_use(key: AccessKey) -> datetime:
    used: LastUsed = key.last_used
    if used.state == "used" and used.at is not None:
        return used.at
    if used.state == "never" and key.created is not None:
        return key.created
    raise RefusedError(
        f"the last use of root key {key.id} could not be read",
        "A root key is deleted only where its last use is known.",
    )
