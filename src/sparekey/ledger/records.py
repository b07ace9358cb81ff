"""What the ledger holds: entries in hash-linked chains, claims, leases, observations and workers."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from sparekey.ledger.database import StateError
from sparekey.model import Value

GENESIS = "0" * 64


class FencedError(StateError):
    """Somebody else has taken over this user or stopped this run: nothing was appended."""


class StoppedError(FencedError):
    """The run was stopped or undone: nothing was appended."""


class LedgerEntry(Value, frozen=True):
    """One entry as it is stored: `hash` is SHA-256 over everything else in it, `prev` included."""

    run: str
    seq: int
    at: datetime
    kind: str
    body: Mapping[str, Any]
    prev: str
    hash: str


OnEvent = Callable[[LedgerEntry], None]


class UserClaim(Value, frozen=True):
    """The right to write to one user, as long as `epoch` is still the ledger's."""

    account: str
    user: str
    epoch: int


class AccountLease(Value, frozen=True):
    """The right to do something that one process does at a time, as long as `epoch` is still the ledger's."""

    name: str
    holder: str
    epoch: int


class ProbeObservation(Value, frozen=True):
    """When a probe was last asked, when it last answered, and what: None where it could not be asked."""

    asked: datetime
    seen: datetime
    healthy: bool | None


class WorkerRecord(Value, frozen=True):
    """A process that watches runs; `credentials_until` is None where it can renew them."""

    id: str
    host: str
    since: datetime
    credentials_until: datetime | None = None


class VerifiedChain(Value, frozen=True):
    """What verifying one run found: nothing in `broken` means that the chain is whole up to `head`."""

    run: str
    entries: int
    head: str
    broken: tuple[str, ...]


def canonical(content: Any) -> str:
    """One spelling for each content: JSON with sorted keys and no spaces."""
    return msgspec.json.encode(content, order="sorted").decode()


def entry_hash(run: str, seq: int, at: str, kind: str, body: str, prev: str) -> str:
    """The hash of an entry: over all of it as it is stored, but for the hash itself."""
    return hashlib.sha256(canonical([run, seq, at, kind, body, prev]).encode()).hexdigest()
