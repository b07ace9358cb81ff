"""The pages: each handler asks the desk and renders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sparekey.app import Asked, Plan, encode_plan
from sparekey.console.render import address, html, page, refusal, user_url
from sparekey.console.request_guard import Session
from sparekey.console.state import BACK, Desk
from sparekey.console.timeline import HEIGHT, WIDTH, timelines
from sparekey.console.views import (
    AGES,
    SHOWS,
    Filter,
    UserId,
    View,
    paged,
    parse_filter,
    reasons,
    select,
    user_ids,
)
from sparekey.errors import BadInputError, SparekeyError
from sparekey.model import AccessKey, RunRecord, StepRecord

_LARGEST_FORM = 2 * 1024 * 1024
_MOST_FIELDS = 50_000

Form = Mapping[str, Sequence[str]]


def desk(request: Request) -> Desk:
    """The desk of this console."""
    found: Desk = request.app.state.desk
    return found


def _show(request: Request, template: str, nav: str, **values: Any) -> Response:
    here = desk(request)
    caller = here.view.audit.snapshot.caller.arn if here.view else ""
    return page(template, nav=nav, caller=caller, now=here.here.clock.now(), **values)


async def _form(request: Request) -> Form:
    """The fields of a form; raises BadInputError where there is more than any page of ours sends."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            raise BadInputError("the form is too large", "Choose fewer users at once.")
    fields: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        ):
            fields.setdefault(name, []).append(value)
    except ValueError as error:
        raise BadInputError("the form cannot be read", "Go back and send it again.") from error
    return fields


def _one(form: Form, name: str) -> str:
    return (form.get(name) or [""])[0]


def _to(path: str) -> Response:
    return RedirectResponse(path, 303)


async def open_door(request: Request) -> Response:
    """Turn the one-time token into the cookie."""
    session: Session = request.app.state.session
    cookie = session.exchange(request.query_params.get("token", ""))
    if cookie is None:
        return refusal(
            403,
            "this address was used before, or is not the one that was printed",
            "Go on in the browser that opened it, or start `sparekey console` again for a new one.",
        )
    # A page and not a redirect: after a click in another site's page, browsers withhold the cookie from one.
    answer = page("open.html", nav="", caller="")
    answer.set_cookie(session.cookie_name, cookie, httponly=True, samesite="strict", path="/")
    return answer


async def overview(request: Request) -> Response:
    """Accounts and coverage."""
    here = desk(request)
    if here.view is None and here.failure is None:
        here.read()
    return _show(
        request,
        "overview.html",
        "overview",
        view=here.view,
        reading=here.reading,
        progress=here.progress,
        failure=here.failure,
    )


async def read_again(request: Request) -> Response:
    """Begin another reading."""
    desk(request).read()
    return _to("/")


async def users(request: Request) -> Response:
    """Users with spare keys, narrowed and paged."""
    here = desk(request)
    view = here.seen()
    by = parse_filter(request.query_params)
    found = select(view.rows, by, here.here.clock.now())
    return _show(
        request,
        "users.html",
        "users",
        view=view,
        by=by,
        page=paged(found, by.page),
        chosen=here.chosen,
        shows=SHOWS,
        ages=AGES,
        reasons=reasons(view.plan),
    )


async def choose_users(request: Request) -> Response:
    """Keep the choice of users while one pages and filters."""
    here, form = desk(request), await _form(request)
    by = _remember(here, form)
    if request.headers.get("hx-request"):
        count = len(here.chosen)
        return Response(html("chosen.html", count=count), media_type="text/html")
    return _to(address("/users", by.query()))


def _remember(here: Desk, form: Form) -> Filter:
    by = parse_filter({name: values[0] for name, values in form.items()})
    here.chosen -= user_ids(form.get("shown", ()))
    here.chosen |= user_ids(form.get("user", ()))
    match _one(form, "choose"):
        case "all":
            found = select(here.seen().rows, by, here.here.clock.now())
            here.chosen |= {row.id for row in found if row.active > 1}
        case "none":
            here.chosen.clear()
    return by


async def user(request: Request) -> Response:
    """One user's security credentials, read again now."""
    here = desk(request)
    who = (request.query_params.get("account", ""), request.query_params.get("name", ""))
    here.seen().user(who)
    view = await here.refresh([who])
    found, row = view.user(who), view.by_user[who]
    return _show(
        request,
        "user.html",
        "users",
        user=found,
        row=row,
        account=view.account(who[0]),
        steps={step.key: step for step in row.steps},
        keep=next((step.keep for step in row.steps if step.keep), None),
        undoable=_undoable(await here.runs(), who),
        timelines=timelines(row.keys, here.usages, here.here.clock.now()),
        height=HEIGHT,
        usages=here.usages,
        source=here.ways.usage,
        proving=here.proving(who),
        unproven=here.unproven.get(who),
        width=WIDTH,
        exempt=next((entry for entry in view.plan.exempt if (entry.account, entry.user) == who), None),
    )


async def prove(request: Request) -> Response:
    """Begin to read who uses a user's keys."""
    form = await _form(request)
    who = (_one(form, "account"), _one(form, "name"))
    desk(request).prove(who)
    return _to(user_url(*who))


def _undoable(runs: Sequence[RunRecord], who: UserId) -> dict[str, tuple[RunRecord, StepRecord]]:
    """For each key of a user that a run of ours touched: the latest such run, and its step."""
    found: dict[str, tuple[RunRecord, StepRecord]] = {}
    for record in runs:
        for step in record.steps:
            if (step.account, step.user) == who and step.state not in ("held", "planned"):
                found.setdefault(step.key, (record, step))
    return found


async def make_plan(request: Request) -> Response:
    """Make a plan of one user or of those chosen, to be looked at."""
    here, form = desk(request), await _form(request)
    if "account" in form and "name" in form:
        wanted = {(_one(form, "account"), _one(form, "name"))}
    else:
        _remember(here, form)
        wanted = set(here.chosen)
    because = _one(form, "because").strip()
    forced = form.get("force", ())
    if forced and not because:
        raise BadInputError("a reason is missing", "Say why the key may go: it is kept in the ledger.")
    asked = Asked(
        tuple(sorted(set(form.get("keep", ())))), dict.fromkeys(forced, because), bool(_one(form, "keep_old"))
    )
    plan = await here.draft(wanted, asked)
    return _to(f"/plans/{plan.digest}")


async def plan(request: Request) -> Response:
    """The plan before it is applied: what goes, what stays, what still uses it, what would stop it."""
    here = desk(request)
    found = here.plan(request.path_params["digest"])
    refused: SparekeyError | None = None
    checked = None
    if found.deactivations:
        try:
            checked = await here.preflight(found)
        except SparekeyError as error:
            refused = error
    return _show(
        request,
        "plan.html",
        "users",
        plan=found,
        checked=checked,
        refused=refused,
        run=getattr(refused, "run", ""),
        keys=_keys(here.seen(), found),
        usages=here.usages,
        back=_back(found),
    )


def _keys(view: View, plan: Plan) -> dict[str, AccessKey]:
    """Every key of the users that the plan speaks of, by id; a user who is gone since has none."""
    rows = (view.by_user.get((step.account, step.user)) for step in plan.steps)
    return {key.id: key for row in rows if row for key in row.keys if key.id}


def _back(plan: Plan) -> str:
    users = {(step.account, step.user) for step in plan.steps}
    return user_url(*next(iter(users))) if len(users) == 1 else "/users"


async def plan_file(request: Request) -> Response:
    """The plan's file, exactly as `sparekey plan -o` writes it."""
    here = desk(request)
    found = here.plan(request.path_params["digest"])
    await here.remember(found)
    headers = {"Content-Disposition": f'attachment; filename="plan-{found.digest[:8]}.json"'}
    return Response(encode_plan(found), media_type="application/json", headers=headers)


async def apply(request: Request) -> Response:
    """Carry out a plan that was looked at."""
    here = desk(request)
    found = here.plan(request.path_params["digest"])
    form = await _form(request)
    options = here.options(
        waves=_one(form, "waves"), green_for=_one(form, "green_for"), watch=not _one(form, "no_watch")
    )
    run = await here.apply(found, options)
    here.chosen -= {(step.account, step.user) for step in found.steps}
    return _to(f"/runs/{run}")


async def held(request: Request) -> Response:
    """Every held step with what would release it."""
    view = desk(request).seen()
    reason = request.query_params.get("reason", "")
    steps = [step for step in view.plan.held if reason in ("", step.reason)]
    steps.sort(key=lambda step: (step.reason, step.account, step.user, step.key))
    every = parse_filter(request.query_params)
    counted = Counter(step.reason for step in view.plan.held)
    return _show(
        request,
        "held.html",
        "held",
        page=paged(steps, every.page),
        reason=reason,
        reasons=dict(sorted(counted.items())),
    )


async def runs(request: Request) -> Response:
    """Every run, newest first."""
    number = parse_filter(request.query_params).page
    return _show(request, "runs.html", "runs", page=paged(await desk(request).runs(), number))


async def run(request: Request) -> Response:
    """One run: what became of each step, live while something moves."""
    here = desk(request)
    record = await here.show(request.path_params["run"])
    return _show(request, "run.html", "runs", **run_values(here, record))


def run_values(here: Desk, record: RunRecord) -> dict[str, Any]:
    """What the run's templates need."""
    return {
        "record": record,
        "failure": here.failures.get(record.id),
        "live": is_live(here, record),
        "moving": is_moving(here, record),
        "back": BACK,
        "undoable": frozenset(
            step.key
            for step in record.steps
            if step.state
            in (
                "applied",
                "confirmed",
                "watching",
                "settled",
                "unwatched",
                "failed",
                "rollback_failed",
                "in_doubt",
            )
        ),
    }


def is_moving(here: Desk, record: RunRecord) -> bool:
    """True while a write or its read-back is under way."""
    return bool(here.busy.get(record.id)) or record.state == "applying"


def is_live(here: Desk, record: RunRecord) -> bool:
    """True while the page may still change by itself."""
    return is_moving(here, record) or record.state in ("watching", "waiting", "rollback_failed")


async def undo(request: Request) -> Response:
    """Reactivate what a run deactivated, all of it or one key."""
    form = await _form(request)
    run = await desk(request).undo(request.path_params["run"], _one(form, "key"))
    return _to(f"/runs/{run}")


async def stop(request: Request) -> Response:
    """Let no further key of a run be deactivated."""
    run = request.path_params["run"]
    await desk(request).stop(run)
    return _to(f"/runs/{run}")


async def resume(request: Request) -> Response:
    """Let a stopped run go on."""
    return _to(f"/runs/{await desk(request).resume(request.path_params['run'])}")


async def exemptions(request: Request) -> Response:
    """Who may break a rule, by whose word, until when; and the policy's thresholds."""
    here = desk(request)
    policy, now = here.here.policy, here.here.clock.now()
    users = [(row.account, row.name) for row in here.view.rows] if here.view else []
    entries = [
        (entry, entry.expired(now), [who for who in users if entry.covers(*who)]) for entry in policy.exempt
    ]
    rotators = [(entry, [who for who in users if entry.covers(*who)]) for entry in policy.rotators]
    return _show(
        request,
        "exemptions.html",
        "exemptions",
        policy=policy,
        entries=entries,
        rotators=rotators,
        read=bool(here.view),
    )
