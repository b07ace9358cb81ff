"""Where a new access key's secret is put: one module per destination; the only room that sees a secret.

A key is created and stored as pending in one call that returns only its id; everything later reads the secret from
the store. Nothing here returns a secret.
"""

import resource
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, cast

from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.errors import AwsError, RejectedCredentialsError
from sparekey.errors import SparekeyError
from sparekey.handover._after import run_after
from sparekey.handover.interface import (
    Copy,
    CopyType,
    CreatedKey,
    HandoverError,
    HandoverTools,
    Publication,
    PublishedKey,
    SecretLostError,
    Store,
    StoreType,
)
from sparekey.plugins import modules_in
from sparekey.policy import FieldError, Handover, Policy, table_place

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CreatedKey",
    "HandoverError",
    "HandoverTools",
    "Handovers",
    "Publication",
    "PublishedKey",
    "SecretLostError",
    "copies",
    "parse",
    "stores",
]

# How often a secret that was just created is put to its store before it is given up.
_TRIES = 4


@cache
def stores() -> Mapping[str, StoreType]:
    """Every kind of store by its name."""
    return {name: cast("StoreType", module.STORE) for name, module in _modules() if hasattr(module, "STORE")}


@cache
def copies() -> Mapping[str, CopyType]:
    """Every kind of copy by its name."""
    return {name: cast("CopyType", module.COPY) for name, module in _modules() if hasattr(module, "COPY")}


def _modules() -> "list[tuple[str, object]]":
    return [*modules_in(__name__, __path__).items()]


def parse(entries: tuple[Handover, ...]) -> None:
    """Check where a policy puts keys; raises FieldError with the table and the field that is wrong."""
    for index, entry in enumerate(entries):
        try:
            _check("store", entry.store, stores(), entry)
            for copy in entry.copies:
                _check("copies", copy, copies(), entry)
        except FieldError as error:
            raise error.within(table_place("handover", index, {"user": entry.user})) from error


def _check(
    field: str, text: str, kinds: "Mapping[str, StoreType] | Mapping[str, CopyType]", entry: Handover
) -> None:
    kind, _, place = text.partition(":")
    if kind not in kinds:
        raise FieldError(field, f"there is no such kind: {kind!r}", f"Kinds: {', '.join(sorted(kinds))}.")
    try:
        kinds[kind].check_place(place, entry)
    except FieldError as error:
        raise FieldError(field, error.message, error.hint) from error


class Handovers:
    """Creates keys and hands them over as a policy says; `tools_for` makes the way into one account."""

    def __init__(self, tools_for: Callable[[str], HandoverTools]) -> None:
        self._tools_for = tools_for

    def check(self, policy: Policy, account: str, user: str, keys: Collection[str]) -> tuple[str, ...]:
        """Raise HandoverError or AwsError where a key could not be handed over; writes nothing.

        `keys` are the user's: a place that has another key is somebody else's, and is refused. Returns what could
        not be checked.
        """
        handover, tools = self._of(policy, account, user)
        store = _store(handover, tools)
        notes = list(store.check())
        _refuse_foreign_key(handover.store, store.current(), user, keys)
        for name, copy in _copies(handover, tools):
            notes += copy.check()
            _refuse_foreign_key(name, copy.read_back() or "", user, keys)
        return tuple(notes)

    def rehearse(self, policy: Policy, account: str, user: str, keys: Collection[str]) -> tuple[str, ...]:
        """The same as `check`, and run `after` with --check. Raises as it does."""
        handover, tools = self._of(policy, account, user)
        notes = self.check(policy, account, user, keys)
        run_after(handover, tools.environ, "--check")
        return notes

    def create(
        self, policy: Policy, account: str, user: str, name: str, about_to_write: Callable[[], None]
    ) -> CreatedKey:
        """Create a key for the user who is called `name` now, and store its secret as pending.

        `about_to_write` is called last, and stops it by raising. Raises AwsError where the key may not exist, and
        SecretLostError where it exists and its secret was lost.
        """
        handover, tools = self._of(policy, account, user)
        store = _store(handover, tools)
        about_to_write()
        key = tools.account.create_key(name)
        why = ""
        for _ in range(_TRIES):
            try:
                with _without_secret(key):
                    return CreatedKey(key.id, store.stage(key))
            except SparekeyError as error:
                why = error.message
        raise SecretLostError(key.id, why)

    def staged(self, policy: Policy, account: str, user: str, key: str) -> str:
        """The store's version that has a key as pending; empty where its secret is not there. Raises as `check`."""
        handover, tools = self._of(policy, account, user)
        return _store(handover, tools).staged(key)

    def creator_of(self, account: str, key: str, since: datetime) -> str:
        """The ARN of who created a key; empty where the event history does not show it. Raises AwsError."""
        return self._tools_for(account).account.creator_of_key(key, since)

    def identity_behind(self, policy: Policy, account: str, user: str, version: str, region: str) -> str:
        """The ARN that the pending key signs as in a region; empty where AWS does not take it (yet)."""
        handover, tools = self._of(policy, account, user)
        key = _store(handover, tools).read(version)
        try:
            with _without_secret(key):
                return tools.account.identity_behind(key, region)
        except RejectedCredentialsError:
            return ""

    def publish(self, policy: Policy, account: str, user: str, version: str, key_id: str) -> PublishedKey:
        """Make the pending key current, write the copies, read them back, run `after`. May be repeated."""
        handover, tools = self._of(policy, account, user)
        store = _store(handover, tools)
        publication = store.publish(version, key_id)
        key = store.read(publication.version)
        if key.id != key_id:
            raise HandoverError(
                f"{handover.store} has {key.id} as current, and not {key_id}: somebody else has written it",
                "Find out which of them the applications use, and undo the run.",
            )
        written = _write_copies(handover, tools, key)
        return PublishedKey(publication, written, run_after(handover, tools.environ))

    def revert(self, policy: Policy, account: str, user: str, version: str, key_id: str) -> tuple[str, ...]:
        """Make the store's version before a key current again, and write the copies from it; or forget a pending one.

        May be repeated. Where the store has another key as current, nothing is written. Returns what each copy shows.
        """
        handover, tools = self._of(policy, account, user)
        store = _store(handover, tools)
        published = store.published(key_id)
        if published is None:
            store.discard(version)
            return ()
        store.revert(published)
        written = _write_copies(handover, tools, store.read(published.previous)) if handover.copies else ()
        run_after(handover, tools.environ)
        return written

    def _of(self, policy: Policy, account: str, user: str) -> tuple[Handover, HandoverTools]:
        _forbid_core_dumps()
        handover = policy.handover_of(account, user)
        if handover is None:
            raise HandoverError(f"policy names no [[handover]] for user {user} in account {account}")
        return handover, self._tools_for(account)


def _refuse_foreign_key(place: str, key: str, user: str, keys: Collection[str]) -> None:
    if key and key not in keys:
        raise HandoverError(
            f"{place} has {key}, which is not a key of user {user}: other applications may read it",
            "Check the policy's [[handover]]; if it is the right place, put the user's present key there first.",
        )


def _forbid_core_dumps() -> None:
    """From here on a crash of this process leaves no file that has its memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _store(handover: Handover, tools: HandoverTools) -> Store:
    kind, _, place = handover.store.partition(":")
    return stores()[kind](place, handover, tools)


def _copies(handover: Handover, tools: HandoverTools) -> list[tuple[str, Copy]]:
    parts = [(text, *text.partition(":")) for text in handover.copies]
    return [(text, copies()[kind](place, handover, tools)) for text, kind, _, place in parts]


def _write_copies(handover: Handover, tools: HandoverTools, key: NewAccessKey) -> tuple[str, ...]:
    """Write each copy and read it back; returns what each shows."""
    written: list[str] = []
    for name, copy in _copies(handover, tools):
        with _without_secret(key, name):
            copy.write(key)
            shown = copy.read_back()
        if shown not in (None, key.id):
            raise HandoverError(f"{name} has {shown} after {key.id} was written to it", temporary=True)
        written.append(f"{name}: {'read back' if shown else 'written; it shows no secret'}")
    return tuple(written)


@contextmanager
def _without_secret(key: NewAccessKey, place: str = "") -> "Iterator[None]":
    """Let no error out that quotes the secret, as a destination's own message may."""
    try:
        yield
    except AwsError as error:
        if key.secret in error.message:
            error.message = error.message.replace(key.secret, "…")
            error.args = (error.message,)
        raise
    except SparekeyError as error:
        message = error.message.replace(key.secret, "…")
        where = f"{place}: " if place and place not in message else ""
        temporary = isinstance(error, HandoverError) and error.temporary
        raise HandoverError(where + message, error.hint, temporary=temporary) from None
    except Exception as error:  # noqa: BLE001  # a library's own, whose text may quote what was sent
        raise HandoverError(
            f"{place or 'the store'} failed: {type(error).__name__}", temporary=True
        ) from None
