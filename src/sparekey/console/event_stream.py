"""What happens, as server-sent events: the ledger is looked at again and again, so any process's run shows.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import StreamingResponse

from sparekey.console.pages import console_state, is_live, is_under_way, run_values
from sparekey.console.render import html
from sparekey.console.state import ConsoleState
from sparekey.console.views import UserId

_SOON, _LATER = 0.3, 3.0
_KEEPALIVE = ": still here\n\n"  # makes a closed connection show


def event(name: str, data: str) -> str:
    """One event; its data may have many lines."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"


async def run_events(request: Request) -> StreamingResponse:
    """One run's progress, until nothing of it moves any more."""
    state = console_state(request)
    record = await state.show(request.path_params["run"])
    return _stream(_run(request, state, record.id))


async def _run(request: Request, state: ConsoleState, run: str) -> AsyncIterator[str]:
    shown = ""
    while not await request.is_disconnected():
        record = await state.show(run)
        values = await run_values(state, record)
        now = state.connection.clock.now()
        fragment = html("run-body.html", now=now, **values)
        if fragment != shown:
            shown = fragment
            yield event("run", fragment)
            yield event("summary", html("run-summary.html", **values))
        else:
            yield _KEEPALIVE
        if not is_live(state, record):
            yield event("end", "")
            return
        await asyncio.sleep(_SOON if is_under_way(state, record) else _LATER)


async def audit_events(request: Request) -> StreamingResponse:
    """How far the reading of the accounts has come, until it has ended."""
    return _stream(_audit(request, console_state(request)))


async def _audit(request: Request, state: ConsoleState) -> AsyncIterator[str]:
    shown = ""
    while state.reading and not await request.is_disconnected():
        fragment = html("reading-body.html", progress=state.progress)
        if fragment != shown:
            shown = fragment
            yield event("progress", fragment)
        await asyncio.sleep(_SOON)
    yield event("end", "")


async def usage_events(request: Request) -> StreamingResponse:
    """One event once the usage of a user's keys was read."""
    who = (request.query_params.get("account", ""), request.query_params.get("name", ""))
    return _stream(_usage(request, console_state(request), who))


async def _usage(request: Request, state: ConsoleState, who: UserId) -> AsyncIterator[str]:
    while state.checking_usage(who) and not await request.is_disconnected():
        yield _KEEPALIVE
        await asyncio.sleep(_SOON)
    yield event("end", "")


def _stream(events: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
