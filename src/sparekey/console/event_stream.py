"""What happens, as server-sent events: the ledger is looked at again and again, so any process's run shows.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import StreamingResponse

from sparekey.console.pages import desk, is_live, is_moving, run_values
from sparekey.console.render import html
from sparekey.console.state import Desk
from sparekey.console.views import UserId

_SOON, _LATER = 0.3, 3.0
_ALIVE = ": still here\n\n"  # makes a closed connection show


def event(name: str, data: str) -> str:
    """One event; its data may have many lines."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"


async def run_events(request: Request) -> StreamingResponse:
    """One run's progress, until nothing of it moves any more."""
    here = desk(request)
    record = await here.show(request.path_params["run"])
    return _stream(_run(request, here, record.id))


async def _run(request: Request, here: Desk, run: str) -> AsyncIterator[str]:
    shown = ""
    while not await request.is_disconnected():
        record = await here.show(run)
        values = run_values(here, record)
        now = here.here.clock.now()
        said = html("run-body.html", now=now, **values)
        if said != shown:
            shown = said
            yield event("run", said)
            yield event("said", html("run-said.html", **values))
        else:
            yield _ALIVE
        if not is_live(here, record):
            yield event("end", "")
            return
        await asyncio.sleep(_SOON if is_moving(here, record) else _LATER)


async def reading_events(request: Request) -> StreamingResponse:
    """How far the reading of the accounts has come, until it has ended."""
    return _stream(_reading(request, desk(request)))


async def _reading(request: Request, here: Desk) -> AsyncIterator[str]:
    shown = ""
    while here.reading and not await request.is_disconnected():
        said = html("reading-body.html", progress=here.progress)
        if said != shown:
            shown = said
            yield event("progress", said)
        await asyncio.sleep(_SOON)
    yield event("end", "")


async def proof_events(request: Request) -> StreamingResponse:
    """Tells once it was read who uses a user's keys."""
    who = (request.query_params.get("account", ""), request.query_params.get("name", ""))
    return _stream(_proof(request, desk(request), who))


async def _proof(request: Request, here: Desk, who: UserId) -> AsyncIterator[str]:
    while here.proving(who) and not await request.is_disconnected():
        yield _ALIVE
        await asyncio.sleep(_SOON)
    yield event("end", "")


def _stream(events: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
