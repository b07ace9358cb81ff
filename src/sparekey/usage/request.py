"""What a usage source is asked, whichever it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sparekey.clock import Clock, SystemClock


class AwsCall(Protocol):
    """How AWS is asked; raises SparekeyError (`sparekey.aws.errors.AwsError`)."""

    def __call__(
        self, service: str, action: str, params: Mapping[str, Any], region: str | None = None
    ) -> dict[str, Any]:
        """The answer to one call."""
        ...


@dataclass
class ReadProgress:
    """How far a reading is: files (or pages), bytes (inflated), and what could not be read."""

    files: int = 0
    bytes: int = 0
    unread: int = 0

    def add(self, size: int, files: int, unread: int) -> None:
        """Count what was done."""
        self.files += files
        self.bytes += size
        self.unread += unread


def _silent(_: ReadProgress) -> None:
    """Ignore it."""


@dataclass(frozen=True, kw_only=True)
class UsageRequest:
    """The window and the means of a reading; each source takes what it needs.

    `since` is inclusive and `until` exclusive; None is no bound. `processes` None is one per processor.
    `call` asks AWS with the credentials of the account that the keys are in (a local archive needs none); `owners`
    maps keys to their accounts, as far as they are known.
    """

    since: datetime | None = None
    until: datetime | None = None
    accounts: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    processes: int | None = None
    max_pages: int = 200
    profile: str | None = None
    region: str | None = None
    progress: Callable[[ReadProgress], None] = _silent
    clock: Clock = field(default_factory=SystemClock)
    workgroup: str | None = None
    output: str | None = None
    call: AwsCall | None = None
    owners: Mapping[str, str] = field(default_factory=dict)
