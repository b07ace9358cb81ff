"""Deleting keys for good: only what a run of ours deactivated long ago, and nobody used or changed since."""

from datetime import datetime, timedelta

from sparekey.aws.errors import AwsError, NotFoundError
from sparekey.aws.key_deletion import KeyDeleter
from sparekey.errors import BadInputError, RefusedError
from sparekey.formatting import moment_with_seconds
from sparekey.ledger.events import (
    DeletionIntended,
    DeletionSkipped,
    KeyDeleted,
    KeyEvent,
    RootDeletionFailed,
    RootDeletionIntended,
    RootKeyDeleted,
)
from sparekey.ledger.store import Ledger
from sparekey.model import AccessKey, LastUsed, User, Value
from sparekey.runs.context import RunContext, UserLease, listing_of
from sparekey.runs.key_facts import KeyFacts
from sparekey.runs.projection import RunProjection
from sparekey.runs.revalidate import written_since
from sparekey.runs.scheduler import run_inline
from sparekey.runs.user_lookup import list_current_user
from sparekey.runs.worker import load_header

_DELETABLE_STATES = ("confirmed", "settled", "unwatched", "deleting")


class Deletable(Value, frozen=True):
    """A key that may be deleted if AWS still reports the same: when and by which run it was deactivated."""

    run: str
    account: str
    user: str
    key: str
    since: datetime


def deletable(
    ledger: Ledger, runs: tuple[str, ...], now: datetime, older_than: timedelta
) -> tuple[Deletable, ...]:
    """What our runs deactivated at least that long ago and have not written since, sorted."""
    keys = [
        Deletable(run, *key, since)
        for run in runs
        for key, facts in RunProjection(ledger.entries(run)).facts.items()
        if (since := _since(facts)) is not None and now - since >= older_than
        # A later run's date counts: the key may have been in use again in between.
        if not written_since(run, key[:2], key[2], ledger)
    ]
    return tuple(sorted(keys, key=lambda entry: (entry.account, entry.user, entry.key, entry.run)))


def _since(facts: KeyFacts) -> datetime | None:
    return facts.confirmed_at if facts.deactivated_by_run and facts.state in _DELETABLE_STATES else None


def orphan(ledger: Ledger, runs: tuple[str, ...], key: str) -> Deletable:
    """The new key of a rotation whose secret nobody has; raises BadInputError where no run knows it as such."""
    for run in runs:
        for (account, user, _old), facts in RunProjection(ledger.entries(run)).facts.items():
            rotation = facts.rotation
            if rotation is not None and rotation.orphan == key and facts.state == "orphaned":
                return Deletable(run, account, user, key, rotation.since)
    raise BadInputError(
        f"no run left {key} behind as a key whose secret is lost",
        "`sparekey show RUN` names such a key; other keys are deleted with --older-than.",
    )


def delete(context: RunContext, what: Deletable, deleter: KeyDeleter, *, orphan: bool = False) -> KeyEvent:
    """Delete one key after asking AWS once more; returns what was put on record. Raises AwsError.

    An `orphan` is kept if it was ever used: then somebody has its secret.
    """
    lease = UserLease(context, load_header(context, what.run), (what.account, what.user))
    key_id = (what.account, what.user, what.key)
    began = lease.facts(what.key).state == "deleting"
    seen = _listed(lease, what.key)
    if began and what.key not in listing_of(seen):
        # The answer was lost; the deletion was not.
        return _record(lease, KeyDeleted(*key_id, ""))
    why = _reason_to_keep(lease, seen, what, orphan=orphan)
    if why:
        return _record(lease, DeletionSkipped(*key_id, why))
    lease.acquire_after(DeletionIntended(*key_id, context.worker, listing_of(seen)))
    try:
        request = deleter.delete_key(lease.name, what.key)
    except NotFoundError:
        if what.key in listing_of(_listed(lease, what.key)):
            raise  # its user was renamed this very moment; the next call continues from here
        return _record(lease, KeyDeleted(*key_id, ""))
    return _record(lease, KeyDeleted(*key_id, request))


def _listed(lease: UserLease, key: str) -> User:
    """The keys of the key's user, whatever the user is called now."""
    return run_inline(list_current_user(lease, key), lease.context.clock)


def _record(lease: UserLease, event: KeyEvent) -> KeyEvent:
    lease.record(event)
    return event


def _reason_to_keep(lease: UserLease, seen: User, what: Deletable, *, orphan: bool) -> str:
    other = written_since(what.run, lease.user, what.key, lease.context.ledger, lease.name)
    if other:
        return f"run {other} has set it since"
    status = listing_of(seen).get(what.key)
    if status is None:
        return "it no longer exists"
    if status != "Inactive":
        return f"it is {status}: somebody else has changed it since"
    if not seen.active_keys:
        return "its user has no active key: it may be needed again"
    used = lease.gateway.last_used(what.key)
    if used.state not in ("used", "never"):
        return "its last use could not be read"
    if orphan and used.state == "used":
        return "it was used: somebody has its secret"
    if used.at is not None and used.at > what.since:
        used_at, since = moment_with_seconds(used.at), moment_with_seconds(what.since)
        return f"it was used at {used_at}, after it was deactivated at {since}"
    return ""


def delete_root(
    context: RunContext,
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
    if context.clock.now() - last < older_than:
        raise RefusedError(
            f"root key {name} of account {account} was created or used at {moment_with_seconds(last)}"
        )
    chain = f"root-{account}"
    context.record(chain, RootDeletionIntended(account, name, last, context.caller.arn))
    try:
        request = deleter.delete_key("", name)
    except AwsError as error:
        context.record(chain, RootDeletionFailed(account, name, error.code, error.message, error.request_id))
        raise
    context.record(chain, RootKeyDeleted(account, name, request))
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
