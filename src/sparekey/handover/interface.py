"""What a destination of a new access key is: a module here, by its name, with `STORE`, `COPY` or both.

A *store* is the versioned master: it takes the secret as pending, makes it current, and restores the version before.
A *copy* is made from it. Secrets are in memory here and in their destinations, nowhere else: no error, log or
argument has one.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.gateway import AccountGateway
from sparekey.errors import SparekeyError
from sparekey.policy import FieldError, Handover, KeyFields


class HandoverError(SparekeyError):
    """A destination cannot take the key; with `temporary` the same may succeed in a while."""

    def __init__(self, message: str, hint: str = "", *, temporary: bool = False) -> None:
        super().__init__(message, hint)
        self.temporary = temporary


class Publication(NamedTuple):
    """The version of a store that is current now, and the one before it; empty where there was none."""

    version: str
    previous: str


class CreatedKey(NamedTuple):
    """A key that was created and is pending in its store."""

    key: str
    version: str


class PublishedKey(NamedTuple):
    """A published key: the store's versions, what each copy shows, and what `after` came to."""

    publication: Publication
    copies: tuple[str, ...]
    after: str


class SecretLostError(SparekeyError):
    """A key was created, and no store took its secret: nobody has it."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"the secret of the new key {key} could not be stored: {why}")
        self.key = key


@dataclass(frozen=True)
class HandoverTools:
    """What destinations are reached with: the user's account, other accounts by a role, and the environment."""

    account: AccountGateway
    enter: Callable[[str], AccountGateway]
    environ: Mapping[str, str] = field(default_factory=dict)

    def store_account(self, handover: Handover) -> AccountGateway:
        """The account that a store in AWS lies in."""
        return self.enter(handover.role) if handover.role else self.account


class Store(Protocol):
    """The versioned master of a user's key; every method raises HandoverError or AwsError."""

    def check(self) -> tuple[str, ...]:
        """Raise where the key could not be stored; writes nothing. Returns what could not be checked."""
        ...

    def current(self) -> str:
        """The id of the key that is current; empty where there is none."""
        ...

    def stage(self, key: NewAccessKey) -> str:
        """Store a key as pending, whatever is current; returns its version. Repeating it changes nothing."""
        ...

    def staged(self, key_id: str) -> str:
        """The version that has this key as pending; empty where none has."""
        ...

    def read(self, version: str) -> NewAccessKey:
        """The key of a version."""
        ...

    def publish(self, version: str, key_id: str) -> Publication:
        """Make a pending version current. Repeating it changes nothing."""
        ...

    def published(self, key_id: str) -> Publication | None:
        """The version that is current, if it has this key, and the one before; None where another key is current."""
        ...

    def revert(self, published: Publication) -> None:
        """Make the version before current again; one that is not published any more is left alone."""
        ...

    def discard(self, version: str) -> None:
        """Forget that a version is pending; it was never current."""
        ...


class Copy(Protocol):
    """Another place that has the current key; every method raises HandoverError or AwsError."""

    def check(self) -> tuple[str, ...]:
        """Raise where the key could not be written; writes nothing. Returns what could not be checked."""
        ...

    def write(self, key: NewAccessKey) -> None:
        """Write id and secret together; what else is there is preserved."""
        ...

    def read_back(self) -> str | None:
        """The id of the key that is there; None where the place shows none."""
        ...


class StoreType(Protocol):
    """How a store is made."""

    def __call__(self, place: str, handover: Handover, tools: HandoverTools) -> Store:
        """The store at a place."""
        ...

    def check_place(self, place: str, handover: Handover) -> None:
        """Raise FieldError for a place that is none; asks nobody."""
        ...


class CopyType(Protocol):
    """How a copy is made."""

    def __call__(self, place: str, handover: Handover, tools: HandoverTools) -> Copy:
        """The copy at a place."""
        ...

    def check_place(self, place: str, handover: Handover) -> None:
        """Raise FieldError for a place that is none; asks nobody."""
        ...


def with_key(document: str, fields: KeyFields, key: NewAccessKey) -> str:
    """A JSON object with the key in its fields; the other fields are preserved. Raises HandoverError."""
    return json.dumps({**_object(document), fields.id: key.id, fields.secret: key.secret})


def key_in(document: str, fields: KeyFields) -> NewAccessKey | None:
    """The key that a JSON object has in its fields; None where it has none. Raises HandoverError."""
    content = _object(document)
    id_, secret = content.get(fields.id), content.get(fields.secret)
    return NewAccessKey(id_, secret) if isinstance(id_, str) and isinstance(secret, str) else None


def other_fields(document: str, fields: KeyFields) -> dict[str, Any]:
    """What a JSON object has beside the key. Raises HandoverError."""
    return {
        name: value for name, value in _object(document).items() if name not in (fields.id, fields.secret)
    }


def _object(document: str) -> dict[str, Any]:
    try:
        content = json.loads(document) if document.strip() else {}
    except ValueError:
        content = None
    if not isinstance(content, dict):
        # Never from the error: its text may quote what was read.
        raise HandoverError(
            "what is stored there is not a JSON object, and would be lost",
            'Store an object such as {"AWS_ACCESS_KEY_ID": "…", "AWS_SECRET_ACCESS_KEY": "…"}, or name another place.',
        )
    return content


def require_place(place: str, what: str, example: str) -> None:
    """Raise FieldError where a destination has no place."""
    if not place.strip():
        raise FieldError("", f"{what} needs a place", f"Such as {example!r}.")
