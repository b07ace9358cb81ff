"""Which key is behind a session: the join of STS sessions to the key that minted them, chained.

In the caller's account the minting call (`AssumeRole`, `GetSessionToken`, `GetFederationToken`) shows the
caller's key in `userIdentity.accessKeyId` and the session's in `responseElements.credentials.accessKeyId`.
"""

from collections.abc import Iterable, Mapping

from sparekey.usage.aggregation import PartialUsage
from sparekey.usage.records import UseEvent

# A session lives 36 hours at most (GetFederationToken, GetSessionToken), and its records come within the day.
# https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
LIFETIME = 60 * 3_600


class KnownSessions:
    """The sessions known so far, each with the key at the head of its chain and when it was minted."""

    def __init__(self, most: int = 200_000) -> None:
        self._most = most
        self._known: dict[str, tuple[str, int]] = {}

    def add(self, minted: Mapping[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
        """Take in minted sessions; returns those that were new."""
        new = {session: origin for session, origin in minted.items() if session not in self._known}
        self._known |= new
        if len(self._known) > self._most:
            latest = sorted(self._known.items(), key=lambda entry: entry[1][1])[self._most // 2 :]
            self._known = dict(latest)
        return new

    def active_at(self, at: int | None) -> dict[str, str]:
        """The sessions that may still call at a time (None: at any), with their keys."""
        return {
            session: key
            for session, (key, minted) in self._known.items()
            if at is None or minted + LIFETIME >= at
        }


def attribute_sessions(
    uses: Iterable[UseEvent], known: Mapping[str, str], partial: PartialUsage
) -> dict[str, str]:
    """Count into `partial` the uses by the known keys and sessions and by those that these uses mint.

    `known` maps key and session ids to keys; returns the sessions that were minted, with their keys.
    """
    waiting: dict[str, list[UseEvent]] = {}
    owners: dict[str, str] = {}
    for use in uses:
        if (key := known.get(use.principal)) is None:
            waiting.setdefault(use.principal, []).append(use)
            continue
        partial.add(use, key)
        if use.minted is not None and use.minted not in known:
            owners.setdefault(use.minted, key)
    fresh = list(owners)
    while fresh:
        session = fresh.pop()
        for use in waiting.pop(session, ()):
            partial.add(use, owners[session])
            if use.minted is not None and use.minted not in known and use.minted not in owners:
                owners[use.minted] = owners[session]
                fresh.append(use.minted)
    return owners
