"""Where a key is now: a user may be renamed while a run is at work, and "not found" is no proof of a deletion.

`UpdateUser` gives a user another name and keeps its keys: the old name is then nobody's, or another user's.
`GetAccessKeyLastUsed` returns the name of the user that a key belongs to. For a key that does not exist it
answers AccessDenied, as for a key that the caller may not ask about: only where the same question is answered
for another key of the account is the key gone.
Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateUser.html
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice

from sparekey.aws.errors import AwsError, DeniedError, MalformedResponseError, NotFoundError
from sparekey.ledger.events import UserRenamed
from sparekey.model import User
from sparekey.runs.context import StepCoroutine, UserLease, listing_of

# How many users are asked for another key, to learn whether the caller may ask about keys at all.
_ASKED = 20


def list_current_user(lease: UserLease, key: str) -> StepCoroutine[User]:
    """The keys of the user that a key belongs to, last use not read, under whatever name the user has now.

    A listing without the key means that AWS confirms its deletion. Raises AwsError where it does not, and
    where the key could not be found; never NotFoundError. A new name is put on record and kept in the turn.
    """
    for wait in (*lease.context.retry_policy.backoff, None):
        try:
            seen = yield from lease.list_keys()
        except NotFoundError:
            seen = None
        if seen is not None and key in listing_of(seen):
            return seen
        name = yield from _name_of(lease, key, seen)
        if name is None:
            return seen or User(lease.user[1], "", ())
        if name != lease.name:
            lease.name = name
            why = f"{lease.user[1]} is called {name} now"
            lease.try_record(UserRenamed(*lease.user, key, name, why))
        if wait is not None:
            yield wait
    raise MalformedResponseError(
        f"AWS reports that {key} belongs to user {lease.name}, and lists that user without it",
        "IAM may be catching up with a change: try again in a minute.",
    )


def _name_of(lease: UserLease, key: str, seen: User | None) -> StepCoroutine[str | None]:
    """The name of the user that a key belongs to; None where AWS confirms that the key is gone."""
    try:
        name = yield from lease.with_retries(lambda: lease.gateway.owner_of(key))
    except NotFoundError:
        return None
    except DeniedError as error:
        denied = error
    else:
        if not name:
            raise MalformedResponseError(f"the answer to iam:GetAccessKeyLastUsed names no user of {key}")
        return name
    for other in _name_by_other_keys(lease, key, seen):
        try:
            yield from lease.with_retries(partial(lease.gateway.owner_of, other))
        except (DeniedError, NotFoundError):
            continue
        return None
    return (yield from _name_by_listing(lease, key, denied))


def _name_by_other_keys(lease: UserLease, key: str, seen: User | None) -> Iterator[str]:
    """Other keys of the same user: those that are listed, then those that the plan names."""
    steps = lease.run.users().get(lease.user, ())
    known = [*listing_of(seen)] if seen else []
    known += [name for step in steps for name in (step.keep, *step.preconditions.statuses) if name]
    yield from dict.fromkeys(name for name in known if name != key)


def _name_by_listing(lease: UserLease, key: str, denied: AwsError) -> StepCoroutine[str | None]:
    """Look for the key among the account's first users, and for one whose keys the caller may ask about."""
    try:
        users = yield from lease.with_retries(lambda: [*islice(lease.gateway.list_users(), _ASKED + 1)])
    except DeniedError:
        raise _name_unknown(lease, key, denied) from denied
    for user in users[:_ASKED]:
        try:
            keys = yield from lease.with_retries(partial(lease.gateway.list_keys, user.name))
        except NotFoundError:
            continue
        ids = [key_.id for key_ in keys if key_.id]
        if key in ids:
            return user.name
        for other in ids[:1]:
            try:
                yield from lease.with_retries(partial(lease.gateway.owner_of, other))
            except (DeniedError, NotFoundError):
                continue
            return None
    if len(users) <= _ASKED:
        return None  # all of the account's keys were listed
    raise _name_unknown(lease, key, denied)


def _name_unknown(lease: UserLease, key: str, denied: AwsError) -> DeniedError:
    return DeniedError(
        f"{key} is not among the keys of user {lease.name}, and AWS does not show whether it was deleted or"
        f" belongs to another user now: {denied.message}",
        "Allow iam:GetAccessKeyLastUsed; `sparekey iam-policy apply` prints the policy. Then repeat the command.",
        code=denied.code,
        action=denied.action,
        request_id=denied.request_id,
    )
