"""The console as one ASGI application: gate, routes, static files, and errors as pages."""

import sys
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from sparekey.console import event_stream, pages
from sparekey.console.render import refusal
from sparekey.console.request_guard import OPEN_PATHS, STATIC, BrowserSession, RequestGuard
from sparekey.console.state import AlreadyStartedError, ConsoleState
from sparekey.errors import BadInputError, RefusedError, SparekeyError, UnexpectedError, trace
from sparekey.formatting import clean

_ROUTES = (
    Route(OPEN_PATHS, pages.exchange_token),
    Route("/", pages.overview),
    Route("/read", pages.read_again, methods=["POST"]),
    Route("/reading/events", event_stream.audit_events),
    Route("/users", pages.users),
    Route("/chosen", pages.choose_users, methods=["POST"]),
    Route("/user", pages.user),
    Route("/usage", pages.check_usage, methods=["POST"]),
    Route("/usage/events", event_stream.usage_events),
    Route("/plans", pages.make_plan, methods=["POST"]),
    Route("/plans/{digest}", pages.plan),
    Route("/plans/{digest}/plan.json", pages.plan_file),
    Route("/plans/{digest}/apply", pages.apply, methods=["POST"]),
    Route("/held", pages.held),
    Route("/runs", pages.runs),
    Route("/runs/{run}", pages.run),
    Route("/runs/{run}/events", event_stream.run_events),
    Route("/runs/{run}/files/{kind}", pages.run_report),
    Route("/runs/{run}/undo", pages.undo, methods=["POST"]),
    Route("/runs/{run}/stop", pages.stop, methods=["POST"]),
    Route("/runs/{run}/resume", pages.resume, methods=["POST"]),
    Route("/exemptions", pages.exemptions),
    Route("/exemptions/review", pages.review_exemption, methods=["POST"]),
    Route("/exemptions/write", pages.write_exemption, methods=["POST"]),
    Mount(STATIC.rstrip("/"), StaticFiles(packages=[("sparekey.console", "static")])),
)


def console_app(state: ConsoleState, session: BrowserSession, hosts: Iterable[str]) -> ASGIApp:
    """The application; `hosts` are the values of the Host header that it answers to."""
    made = Starlette(
        routes=list(_ROUTES),
        exception_handlers={
            SparekeyError: _error_page,
            HTTPException: _not_found,
            ClientDisconnect: _cut_off,
            Exception: _failed,
        },
    )
    made.state.console = state
    made.state.session = session
    # Around everything, so that a page about a failure has the headers, too.
    return RequestGuard(made, hosts=frozenset(hosts), session=session, refuse=refusal)


async def _error_page(_request: Request, error: Exception) -> Response:
    if not isinstance(error, SparekeyError):
        raise error
    match error:
        case AlreadyStartedError():
            return refusal(409, error.message, error.hint, error.run)
        case BadInputError():
            return refusal(400, error.message, error.hint)
        case RefusedError():
            return refusal(409, error.message, error.hint)
        case _:
            return refusal(502, error.message, error.hint)


async def _not_found(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return refusal(status, "there is no such page", "The links above lead to every page there is.")


async def _cut_off(_request: Request, _error: Exception) -> Response:
    """The browser went away in the middle of a form: nothing was done, and there is nobody to answer."""
    return Response(status_code=400)


async def _failed(_request: Request, error: Exception) -> Response:
    shown = UnexpectedError.of(error)
    sys.stderr.write(clean("\n".join((f"error: {shown.message}", *trace(error)))) + "\n")
    return refusal(
        500,
        f"unexpected error: {type(error).__name__}",
        "The terminal shows more; `sparekey runs` shows what was done.",
    )
