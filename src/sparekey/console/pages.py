"""The pages: each handler calls the console state and renders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qsl

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sparekey.app import (
    ExemptionChange,
    Limits,
    Overrides,
    Plan,
    encode_plan,
    exemption_count,
    export_ledger,
    is_rotatable,
    render_report,
)
from sparekey.console.render import html, page, page_address, refusal, user_url
from sparekey.console.request_guard import BrowserSession
from sparekey.console.state import ConsoleState
from sparekey.console.timeline import HEIGHT, WIDTH, timelines
from sparekey.console.views import (
    AGES,
    SHOWS,
    AuditView,
    UserFilter,
    UserId,
    choice_of,
    filter_rows,
    held_users,
    key_ages,
    paginate,
    parse_filter,
    reasons,
    sort_rows,
    user_ids,
    user_states,
)
from sparekey.errors import BadInputError, SparekeyError
from sparekey.model import AccessKey, RunRecord, StepRecord
from sparekey.states import STEP_STATES

_LARGEST_FORM = 2 * 1024 * 1024
_MOST_FIELDS = 50_000

Form = Mapping[str, Sequence[str]]


def console_state(request: Request) -> ConsoleState:
    """The state of this console."""
    state: ConsoleState = request.app.state.console
    return state


def _show(request: Request, template: str, nav: str, **values: Any) -> Response:
    state = console_state(request)
    caller = state.view.audit.snapshot.caller.arn if state.view else ""
    return page(
        template,
        nav=nav,
        caller=caller,
        now=state.connection.clock.now(),
        demo=state.console_options.demo,
        **values,
    )


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


def _single_value(form: Form, name: str) -> str:
    return (form.get(name) or [""])[0]


def _redirect(path: str) -> Response:
    return RedirectResponse(path, 303)


async def exchange_token(request: Request) -> Response:
    """Turn the one-time token into the cookie."""
    session: BrowserSession = request.app.state.session
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
    state = console_state(request)
    if state.view is None and state.failure is None:
        state.read()
    return _show(
        request,
        "overview.html",
        "overview",
        view=state.view,
        reading=state.reading,
        progress=state.progress,
        failure=state.failure,
        ages=key_ages(state.view, state.connection.clock.now()) if state.view else [],
        states=user_states(state.view) if state.view else [],
    )


async def read_again(request: Request) -> Response:
    """Begin another reading."""
    console_state(request).read()
    return _redirect("/")


async def users(request: Request) -> Response:
    """Users with spare keys, narrowed and paged."""
    state = console_state(request)
    view = state.current_view()
    by = parse_filter(request.query_params)
    matching = sort_rows(filter_rows(view.rows, by, state.connection.clock.now()), by.sort)
    return _show(
        request,
        "users.html",
        "users",
        view=view,
        by=by,
        page=paginate(matching, by.page),
        chosen=state.chosen,
        choice=choice_of(view, state.chosen),
        shows=SHOWS,
        ages=AGES,
        reasons=reasons(view.plan),
    )


async def choose_users(request: Request) -> Response:
    """Keep the choice of users while one pages and filters."""
    state, form = console_state(request), await _form(request)
    by = _remember_choice(state, form)
    if request.headers.get("hx-request"):
        choice = choice_of(state.view, state.chosen)
        return Response(html("chosen.html", choice=choice), media_type="text/html")
    return _redirect(page_address("/users", by.query()))


def _remember_choice(state: ConsoleState, form: Form) -> UserFilter:
    by = parse_filter({name: values[0] for name, values in form.items()})
    state.chosen -= user_ids(form.get("shown", ()))
    state.chosen |= user_ids(form.get("user", ()))
    match _single_value(form, "choose"):
        case "all":
            matching = filter_rows(state.current_view().rows, by, state.connection.clock.now())
            state.chosen |= {row.id for row in matching if row.active > 1}
        case "none":
            state.chosen.clear()
    return by


async def user(request: Request) -> Response:
    """One user's security credentials, read again now."""
    state = console_state(request)
    who = (request.query_params.get("account", ""), request.query_params.get("name", ""))
    state.current_view().user(who)
    view = await state.refresh([who])
    details, row = view.user(who), view.by_user[who]
    return _show(
        request,
        "user.html",
        "users",
        user=details,
        row=row,
        account=view.account(who[0]),
        steps={step.key: step for step in row.steps},
        keep=next((step.keep for step in row.steps if step.keep), None),
        rotatable=is_rotatable(state.connection, who[0], details),
        undoable=_undoable(await state.runs(), who),
        timelines=timelines(row.keys, state.usages, state.connection.clock.now()),
        height=HEIGHT,
        usages=state.usages,
        source=state.console_options.usage,
        proving=state.checking_usage(who),
        unproven=state.usage_unread.get(who),
        width=WIDTH,
        exempt=next((entry for entry in view.plan.exempt if (entry.account, entry.user) == who), None),
    )


async def check_usage(request: Request) -> Response:
    """Begin to read who uses a user's keys."""
    form = await _form(request)
    who = (_single_value(form, "account"), _single_value(form, "name"))
    console_state(request).check_usage(who)
    return _redirect(user_url(*who))


def _undoable(runs: Sequence[RunRecord], who: UserId) -> dict[str, tuple[RunRecord, StepRecord]]:
    """For each key of a user that a run of ours touched: the latest such run, and its step."""
    deactivations: dict[str, tuple[RunRecord, StepRecord]] = {}
    for record in runs:
        for step in record.steps:
            if (step.account, step.user) == who and step.state not in ("held", "planned"):
                deactivations.setdefault(step.key, (record, step))
    return deactivations


async def make_plan(request: Request) -> Response:
    """Make a plan of one user or of those chosen, to be looked at."""
    state, form = console_state(request), await _form(request)
    if "account" in form and "name" in form:
        chosen = {(_single_value(form, "account"), _single_value(form, "name"))}
    else:
        _remember_choice(state, form)
        chosen = set(state.chosen)
    because = _single_value(form, "because").strip()
    forced = form.get("force", ())
    if forced and not because:
        raise BadInputError("a reason is missing", "Give the reason: it is recorded in the ledger.")
    asked = Overrides(
        tuple(sorted(set(form.get("keep", ())))),
        dict.fromkeys(forced, because),
        bool(_single_value(form, "keep_old")),
        rotate=bool(_single_value(form, "rotate")),
    )
    plan = await state.make_plan(chosen, asked)
    return _redirect(f"/plans/{plan.digest}")


async def plan(request: Request) -> Response:
    """The plan before it is applied: what is deactivated, what is kept, who still uses it, what would stop it."""
    state = console_state(request)
    made = state.plan(request.path_params["digest"])
    texts = {name: request.query_params.get(name, "") for name in _LIMITS}
    refused: SparekeyError | None = None
    checked = None
    if made.writes:
        try:
            checked = await state.preflight(made, _limits(texts))
        except SparekeyError as error:
            refused = error
    return _show(
        request,
        "plan.html",
        "users",
        plan=made,
        checked=checked,
        refused=refused,
        limits=texts,
        windows=state.connection.policy.windows,
        run=getattr(refused, "run", ""),
        keys=_keys(state.current_view(), made),
        usages=state.usages,
        back=_plan_link(made),
    )


# The fields of the limits of a run, as `sparekey apply` names them.
_LIMITS = ("max_keys", "max_share", "max_account_keys", "max_account_share")


def _limits(texts: Mapping[str, str]) -> Limits:
    """The limits from their fields, empty ones unnamed; raises BadInputError."""

    def count(name: str) -> int | None:
        text = texts[name].strip()
        if text and not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            raise BadInputError(f"{text!r} is not a number of keys", "Write a whole number, such as 200.")
        return int(text) if text else None

    def share(name: str) -> float | None:
        try:
            return float(texts[name]) if texts[name].strip() else None
        except ValueError:
            raise BadInputError(f"{texts[name]!r} is not a share", "Write a number from 0 to 1.") from None

    return Limits(
        count("max_keys"), share("max_share"), count("max_account_keys"), share("max_account_share")
    )


def _keys(view: AuditView, plan: Plan) -> dict[str, AccessKey]:
    """Every key of the plan's users, by id; a user deleted since has none."""
    rows = (view.by_user.get((step.account, step.user)) for step in plan.steps)
    return {key.id: key for row in rows if row for key in row.keys if key.id}


def _plan_link(plan: Plan) -> str:
    users = {(step.account, step.user) for step in plan.steps}
    return user_url(*next(iter(users))) if len(users) == 1 else "/users"


async def plan_file(request: Request) -> Response:
    """The plan's file, exactly as `sparekey plan -o` writes it."""
    state = console_state(request)
    made = state.plan(request.path_params["digest"])
    await state.keep_plan(made)
    headers = {"Content-Disposition": f'attachment; filename="plan-{made.digest[:8]}.json"'}
    return Response(encode_plan(made), media_type="application/json", headers=headers)


async def apply(request: Request) -> Response:
    """Execute a plan that was reviewed."""
    state = console_state(request)
    made = state.plan(request.path_params["digest"])
    form = await _form(request)
    options = state.options(
        waves=_single_value(form, "waves"),
        healthy_for=_single_value(form, "healthy_for"),
        watch=not _single_value(form, "no_watch"),
        windows=_single_value(form, "windows") if "windows" in form else None,
    )
    limits = _limits({name: _single_value(form, name) for name in _LIMITS})
    run = await state.apply(made, options, limits)
    state.chosen -= {(step.account, step.user) for step in made.steps}
    return _redirect(f"/runs/{run}")


async def held(request: Request) -> Response:
    """Every user with held keys, and what would release them."""
    view = console_state(request).current_view()
    reason = request.query_params.get("reason", "")
    every = parse_filter(request.query_params)
    counted = Counter(step.reason for step in view.plan.held)
    return _show(
        request,
        "held.html",
        "held",
        page=paginate(held_users(view.plan, reason), every.page),
        reason=reason,
        reasons=dict(sorted(counted.items())),
        by_usage=_BY_USAGE,
    )


# The reasons for which reading who uses the keys may release them.
_BY_USAGE = frozenset({"no-usage", "usage-partial", "not-moved", "recent-use", "gap"})


async def runs(request: Request) -> Response:
    """Every run, newest first."""
    number = parse_filter(request.query_params).page
    return _show(request, "runs.html", "runs", page=paginate(await console_state(request).runs(), number))


async def run(request: Request) -> Response:
    """One run: what became of each step, live while something moves."""
    state = console_state(request)
    record = await state.show(request.path_params["run"])
    return _show(request, "run.html", "runs", **await run_values(state, record))


async def run_report(request: Request) -> Response:
    """A run's report, JSON or ledger entries, as a file."""
    state, kind = console_state(request), request.path_params["kind"]
    record = await state.show(request.path_params["run"])
    if kind == "ledger.jsonl":
        text = await anyio.to_thread.run_sync(
            lambda: "".join(f"{x.rstrip()}\n" for x in export_ledger(record.id))
        )
    elif kind in _REPORTS:
        text = await anyio.to_thread.run_sync(lambda: "".join(render_report(record.id, _REPORTS[kind])))
    else:
        raise BadInputError(
            f"there is no report {kind!r}", f"There are: {', '.join((*_REPORTS, 'ledger.jsonl'))}."
        )
    headers = {"Content-Disposition": f'attachment; filename="{record.id}-{kind}"'}
    return Response(text, media_type="application/octet-stream", headers=headers)


_REPORTS = {"report.html": "html", "run.json": "json", "run.csv": "csv"}


async def run_values(state: ConsoleState, record: RunRecord) -> dict[str, Any]:
    """What the run's templates need."""
    unfinished = record.state in ("applying", "waiting") and not state.busy.get(record.id)
    return {
        "record": record,
        "failure": state.failures.get(record.id),
        "resumable": record.state == "stopped" or (unfinished and not await state.has_worker()),
        "live": is_live(state, record),
        "moving": is_under_way(state, record),
        "undoable": frozenset(step.key for step in record.steps if STEP_STATES[step.state].undoable),
    }


def is_under_way(state: ConsoleState, record: RunRecord) -> bool:
    """True while a write or its read-back is under way."""
    return bool(state.busy.get(record.id)) or record.state == "applying"


def is_live(state: ConsoleState, record: RunRecord) -> bool:
    """True while the page may still change by itself."""
    return is_under_way(state, record) or record.state in ("watching", "waiting", "rollback_failed")


async def undo(request: Request) -> Response:
    """Reactivate what a run deactivated, all of it or one key."""
    form = await _form(request)
    run = await console_state(request).undo(request.path_params["run"], _single_value(form, "key"))
    return _redirect(f"/runs/{run}")


async def stop(request: Request) -> Response:
    """Let no further key of a run be deactivated."""
    run = request.path_params["run"]
    await console_state(request).stop(run)
    return _redirect(f"/runs/{run}")


async def resume(request: Request) -> Response:
    """Let a stopped run go on."""
    return _redirect(f"/runs/{await console_state(request).resume(request.path_params['run'])}")


async def exemptions(request: Request) -> Response:
    """Who may break a rule, by whose word, until when; and the policy's thresholds."""
    state = console_state(request)
    editable = await anyio.to_thread.run_sync(exemption_count, state.connection)
    policy, now = state.connection.policy, state.connection.clock.now()
    users = [(row.account, row.name) for row in state.view.rows] if state.view else []
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
        read=bool(state.view),
        editable=editable,
        user=request.query_params.get("name", ""),
        account=request.query_params.get("account", ""),
    )


async def review_exemption(request: Request) -> Response:
    """What a change of the exemptions does to the policy file, before it is written."""
    state, form = console_state(request), await _form(request)
    change = _exemption_change(form)
    proposed = await state.propose_exemption(change)
    return _show(request, "exemption-review.html", "exemptions", proposed=proposed, change=change)


async def write_exemption(request: Request) -> Response:
    """Write a change of the exemptions that was reviewed."""
    state, form = console_state(request), await _form(request)
    await state.write_exemption(_exemption_change(form), _single_value(form, "digest"))
    return _redirect("/exemptions")


def _exemption_change(form: Form) -> ExemptionChange:
    number = _single_value(form, "number")
    action: Literal["add", "extend", "end"]
    match _single_value(form, "action"):
        case "add" | "extend" | "end" as action:
            pass
        case _:
            raise BadInputError("this form names no change of an exemption", "Go back and send it again.")
    texts = {name: _single_value(form, name) for name in ("user", "account", "owner", "reason", "expires")}
    known = number.isascii() and number.isdigit() and len(number) < 7
    return ExemptionChange(action=action, number=int(number) if known else -1, **texts)
