"""The console's connections: a deadline for a request's headers, and a limit that never keeps the owner out."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds in which the headers of a request must be complete, counted from the connection or the last answer.
HEADER_DEADLINE = 10.0
# Connections that have not shown the cookie. One more closes the oldest of them, so that the next one,
# the owner for one, is always served; connections that have shown it are neither counted nor closed.
MAX_UNAUTHENTICATED = 64


class UnauthenticatedConnections:
    """The connections of one server that have not shown the cookie, oldest first."""

    def __init__(self, most: int = MAX_UNAUTHENTICATED) -> None:
        self._most = most
        self._connections: dict[ConsoleProtocol, None] = {}

    def add(self, connection: "ConsoleProtocol") -> None:
        """Count a new connection; closes the oldest one beyond the limit."""
        while len(self._connections) >= self._most:
            oldest = next(iter(self._connections))
            self.remove(oldest)
            oldest.transport.abort()
        self._connections[connection] = None

    def remove(self, connection: "ConsoleProtocol") -> None:
        """Count a connection no longer: it has shown the cookie, or it has ended."""
        self._connections.pop(connection, None)


class ConsoleProtocol(H11Protocol):
    """One connection of uvicorn's; `scope["state"]["connection"]` leads a request to it."""

    strangers = UnauthenticatedConnections()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app_state = {**self.app_state, "connection": self}
        self._deadline: asyncio.TimerHandle | None = None

    def admit(self) -> None:
        """Take this connection out of the limit: a request on it has shown the cookie."""
        self.strangers.remove(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the clock for the first request's headers."""
        super().connection_made(transport)
        self.strangers.add(self)
        self._restart_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._clear_deadline()
        self.strangers.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass what came on; the clock stops only once a request is being answered."""
        super().data_received(data)
        if self._answering:
            self._clear_deadline()

    def on_response_complete(self) -> None:
        """Start the clock for the next request's headers."""
        super().on_response_complete()
        if not self._answering:
            self._restart_deadline()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _restart_deadline(self) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(HEADER_DEADLINE, self.transport.abort)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def connections(most: int = MAX_UNAUTHENTICATED) -> type[ConsoleProtocol]:
    """The protocol class of one server, with a limit of its own."""
    return type("Connection", (ConsoleProtocol,), {"strangers": UnauthenticatedConnections(most)})
