"""One step at a time: what holds it, what fails it, what brings it back."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from sparekey.aws.errors import (
    AwsError,
    DeniedError,
    FailedServiceError,
    ThrottledError,
    UnreachableError,
)
from sparekey.decision import Overrides
from sparekey.errors import BadInputError
from sparekey.ledger.database import StateFullError
from sparekey.ledger.events import (
    RunResumed,
    StatusConfirmed,
    StepFailed,
    UndoRequested,
    WatchEnded,
    event_body,
    kind_of,
)
from sparekey.ledger.records import FencedError
from sparekey.model import Caller, LastUsed
from sparekey.planner import make_plan
from sparekey.policy import Policy
from sparekey.runs.context import NoProbes, RunContext, StepCoroutine, UserLease
from sparekey.runs.deactivate import execute_user, hold_key
from sparekey.runs.key_facts import KeyFacts
from sparekey.runs.projection import RunProjection
from sparekey.runs.reactivate import reactivate
from sparekey.runs.run_header import open_run
from sparekey.runs.scheduler import run_all
from sparekey.runs.worker import load_header
from support.clocks import NOW, VirtualClock
from support.fake_aws import ACCOUNT, FakeAws, key, plan_for, small_company, snapshot, used
from support.virtual_engine import VirtualEngine, one_call_at_a_time

DENIED = DeniedError("access denied: iam:UpdateAccessKey", code="AccessDenied", request_id="no-1")


def pair() -> FakeAws:
    aws = small_company()
    aws.users = {(ACCOUNT, "api"): aws.users[ACCOUNT, "api"]}
    return aws


def after(change: Callable[[FakeAws], None], aws: FakeAws | None = None) -> tuple[VirtualEngine, str]:
    """A run in a world that changed after the plan was made."""
    aws = aws or pair()
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))
    change(aws)
    engine.run()
    return engine, run


def outcome(engine: VirtualEngine, run: str) -> tuple[str, str]:
    step = engine.record(run).steps[0]
    return step.state, step.why


def _last_use(aws: FakeAws, index: int, found: LastUsed) -> None:
    aws.users[ACCOUNT, "api"][index].last_used = found


def _swap(aws: FakeAws) -> None:
    """The old key is young after all, and the one in use."""
    aws.users[ACCOUNT, "api"][0].created = NOW - timedelta(days=70)
    aws.users[ACCOUNT, "api"][1].created = NOW - timedelta(days=80)
    _last_use(aws, 0, used(1))
    _last_use(aws, 1, used(60))


def _add(aws: FakeAws) -> None:
    aws.users[ACCOUNT, "api"].append(key("AKIAAPINEWEST", 10, used(0.1)))


@pytest.mark.parametrize(
    ("change", "state", "why"),
    [
        (lambda aws: aws.set("api", "AKIAAPIOLD", "Inactive"), "already_inactive", "somebody else had"),
        (lambda aws: aws.set("api", "AKIAAPINEW", "Inactive"), "held", "the key to keep, is not active"),
        (lambda aws: aws.users[ACCOUNT, "api"].pop(0), "gone", "the key no longer exists"),
        (lambda aws: aws.users[ACCOUNT, "api"].pop(1), "held", "is not active now"),
        (lambda aws: aws.users.clear(), "gone", "the key no longer exists"),
        (lambda aws: aws.rename(("api", "api2")), "held", "its user was renamed to api2 after the plan"),
        (lambda aws: _last_use(aws, 0, used(79)), "held", "after the plan was made"),
        (lambda aws: _last_use(aws, 0, used(1)), "held", ""),
        (_swap, "held", "decided again, this key is kept"),
        (lambda aws: _last_use(aws, 1, LastUsed("unreadable", why="denied")), "held", "could not be read"),
        (_add, "held", "decided again, AKIAAPINEWEST is kept"),
    ],
)
def test_a_step_is_not_taken_where_the_world_changed(
    change: Callable[[FakeAws], None], state: str, why: str
) -> None:
    engine, run = after(change)
    assert outcome(engine, run)[0] == state
    assert why in outcome(engine, run)[1]
    assert engine.aws.writes == []


def test_the_kept_keys_newer_use_is_a_good_sign() -> None:
    engine, run = after(lambda aws: _last_use(aws, 1, used(0.01)))
    assert outcome(engine, run)[0] == "unwatched"


def test_a_forced_key_may_be_in_use() -> None:
    aws = pair()
    _last_use(aws, 0, used(0.5))
    engine = VirtualEngine(aws)
    plan = make_plan(snapshot(aws), Policy(), NOW, overrides=Overrides(force={"AKIAAPIOLD": "leaked"}))
    run = engine.open(plan)
    _last_use(aws, 0, used(0.01))
    engine.run()
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"
    assert engine.states(run)["AKIAAPIOLD"] == "unwatched"


def test_the_workers_own_keys_are_not_touched() -> None:
    aws = pair()
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))
    mine = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/api", frozenset({"api"}), frozenset({"AKIAAPIOLD"}))
    hands = RunContext(engine.ledger, aws.clock, aws.gateway, mine)
    opened = load_header(hands, run)
    run_all([execute_user(hands, opened, user, steps) for user, steps in opened.users().items()], aws.clock)
    assert outcome(engine, run)[0] == "held"
    assert aws.writes == []


@pytest.mark.parametrize("reason", ["caller", "caller-unknown"])
def test_who_signs_is_asked_again_just_before_the_write(reason: str) -> None:
    aws = pair()
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))
    before = Caller(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/ops")
    own = frozenset({(ACCOUNT, "api")})
    since = (
        msgspec.structs.replace(before, users=own)
        if reason == "caller"
        else msgspec.structs.replace(before, suspects=own, unknown=("somebody",))
    )
    hands = RunContext(engine.ledger, aws.clock, aws.gateway, before, caller_now=lambda: since)
    opened = load_header(hands, run)
    run_all([execute_user(hands, opened, user, steps) for user, steps in opened.users().items()], aws.clock)
    assert outcome(engine, run)[0] == "held"
    assert [entry.body["reason"] for entry in engine.ledger.entries(run, kinds=("held",))] == [reason]
    assert aws.writes == []


def test_nothing_is_written_where_aws_does_not_say_who_signs() -> None:
    aws = pair()
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))

    def refused() -> Caller:
        raise AwsError("AWS does not say who this is")

    hands = RunContext(engine.ledger, aws.clock, aws.gateway, Caller(ACCOUNT, "arn"), caller_now=refused)
    opened = load_header(hands, run)
    run_all([execute_user(hands, opened, user, steps) for user, steps in opened.users().items()], aws.clock)
    assert outcome(engine, run)[0] == "failed"
    assert aws.writes == []


def failing(engine: VirtualEngine, *errors: tuple[str, str, AwsError]) -> None:
    """Let the next calls of these names fail, before or after they acted."""
    left = list(errors)

    def strike(when: str) -> Callable[[str], None]:
        def struck(call: str) -> None:
            if left and left[0][:2] == (call, when):
                raise left.pop(0)[2]

        return struck

    engine.aws.before, engine.aws.after = strike("before"), strike("after")


CUT = UnreachableError("AWS cannot be reached")
THROTTLED = ThrottledError("too many requests", code="Throttling", request_id="slow-1")


@pytest.mark.parametrize(
    ("errors", "kinds"),
    [
        ([("set_status", "before", CUT)], ["intent", "unsure", "resolved", "intent", "written", "confirmed"]),
        ([("set_status", "after", CUT)], ["intent", "unsure", "resolved", "confirmed"]),
        ([("set_status", "before", THROTTLED)], ["intent", "failed", "intent", "written", "confirmed"]),
        (
            [("list_keys", "before", THROTTLED), ("last_used", "before", CUT)],
            ["intent", "written", "confirmed"],
        ),
        (
            [("set_status", "after", FailedServiceError("HTTP 503", code="ServiceUnavailable"))],
            ["intent", "unsure", "resolved", "confirmed"],
        ),
    ],
)
def test_what_passes_is_tried_again_with_a_reason(
    errors: list[tuple[str, str, AwsError]], kinds: list[str]
) -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    failing(engine, *errors)
    engine.run()
    assert engine.kinds(run) == ["opened", *kinds, "verdict"]
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_is_always_lost_fails_and_is_resolved_by_the_next_attempt(when: str) -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))

    def strike(call: str) -> None:
        if call == "set_status":
            raise CUT

    setattr(engine.aws, when, strike)
    engine.run()
    if when == "after":
        # What AWS says settles it.
        assert outcome(engine, run)[0] == "unwatched"
        return
    assert outcome(engine, run) == ("failed", "AWS cannot be reached")
    assert engine.record(run).state == "failed"
    engine.aws.before = lambda _call: None
    engine.context.record(run, RunResumed("somebody"))
    engine.supervise(run, "again")
    engine.run()
    assert outcome(engine, run)[0] == "unwatched"


def test_an_undo_ends_what_was_to_be_tried_again() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))

    def strike(call: str) -> None:
        if call == "set_status":
            engine.context.record(run, UndoRequested("somebody"))
            raise THROTTLED

    engine.aws.before = strike
    engine.run()
    assert outcome(engine, run) == ("failed", "Throttling: too many requests")
    assert engine.record(run).state == "undone"


def test_a_throttled_reading_that_goes_on_is_a_failure_with_its_code() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))

    def strike(call: str) -> None:
        if call == "list_keys":
            raise THROTTLED

    engine.aws.before = strike
    engine.run()
    step = engine.record(run).steps[0]
    assert (step.state, step.why, step.request_ids) == (
        "failed",
        "Throttling: too many requests",
        ("slow-1",),
    )


def test_a_key_that_does_not_turn_inactive_is_an_error() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    engine.aws.stale = lambda: timedelta(hours=1)
    engine.run()
    assert outcome(engine, run) == (
        "failed",
        "60 s after it was set Inactive, listings still show it Active",
    )


def test_stale_listings_are_waited_for() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    engine.aws.stale = lambda: timedelta(seconds=10)
    engine.run()
    assert outcome(engine, run)[0] == "unwatched"
    confirmed = engine.ledger.entries(run, kinds=("confirmed",))[0]
    written = engine.ledger.entries(run, kinds=("written",))[0]
    assert confirmed.at - written.at >= timedelta(seconds=14)


def test_a_write_that_listings_do_not_show_yet_is_ours() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    failing(engine, ("set_status", "after", CUT))
    engine.aws.stale = lambda: timedelta(seconds=10)
    engine.run()
    assert engine.kinds(run) == ["opened", "intent", "unsure", "resolved", "confirmed", "verdict"]
    assert engine.ledger.entries(run, kinds=("resolved",))[0].body["says"] == "Inactive"


def test_a_listing_that_shows_the_change_late_is_listed_again() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    engine.aws.stale = lambda: timedelta(seconds=60)
    engine.run()
    assert outcome(engine, run)[0] == "unwatched"


@pytest.mark.parametrize("what", ["key", "user", "denied"])
def test_what_is_lost_between_the_intent_and_the_call(what: str) -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))

    def strike(call: str) -> None:
        if call != "set_status":
            return
        if what == "denied":
            raise DENIED
        if what == "user":
            engine.aws.users.clear()
        else:
            engine.aws.users[ACCOUNT, "api"].pop(0)
        engine.aws.before = lambda _call: None

    engine.aws.before = strike
    engine.run()
    assert outcome(engine, run)[0] == ("failed" if what == "denied" else "gone")
    assert engine.kinds(run)[1] == "intent"


def test_a_key_deleted_after_the_write_is_gone() -> None:
    for pop in (0, None):
        engine = VirtualEngine(pair())
        run = engine.open(plan_for(engine.aws))

        def strike(call: str, pop: int | None = pop, engine: VirtualEngine = engine) -> None:
            if call == "set_status":
                if pop is None:
                    engine.aws.users.clear()
                else:
                    engine.aws.users[ACCOUNT, "api"].pop(pop)

        engine.aws.after = strike
        engine.run()
        assert outcome(engine, run)[0] == "gone"


def test_the_key_that_stays_is_switched_off_meanwhile_and_ours_comes_back() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    engine.aws.after = lambda call: (
        engine.aws.set("api", "AKIAAPINEW", "Inactive") if call == "set_status" else None
    )
    engine.run()
    assert engine.aws.status("api", "AKIAAPIOLD") == "Active"
    assert outcome(engine, run) == (
        "rolled_back",
        "reactivated because a listing showed the user without an active key",
    )


def begun(steps: int) -> tuple[VirtualEngine, str]:
    """A run that was cut off after so many points of its one step."""
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    opened = load_header(engine.context, run)
    ((user, planned),) = opened.users().items()
    work = one_call_at_a_time(execute_user(engine.context, opened, user, planned))
    for _ in range(steps):
        next(work)
    work.close()
    return engine, run


def test_cut_off_at_any_point_it_goes_on() -> None:
    for steps in range(1, 12):
        engine, run = begun(steps)
        engine.run()
        assert outcome(engine, run)[0] == "unwatched", steps
        assert engine.aws.statuses("api") == {"AKIAAPIOLD": "Inactive", "AKIAAPINEW": "Active"}


@pytest.mark.parametrize("steps", [5, 6, 7])
def test_a_key_or_user_that_vanished_meanwhile_is_gone(steps: int) -> None:
    for clear in (True, False):
        engine, run = begun(steps)
        assert engine.kinds(run)[1] == "intent"
        if clear:
            engine.aws.users.clear()
        else:
            engine.aws.users[ACCOUNT, "api"].pop(0)
        engine.run()
        assert outcome(engine, run)[0] == "gone"


def carry(engine: VirtualEngine, run: str) -> None:
    opened = load_header(engine.context, run)
    works = [execute_user(engine.context, opened, user, steps) for user, steps in opened.users().items()]
    run_all(works, engine.clock)


def undo(engine: VirtualEngine, run: str, name: str = "AKIAAPIOLD") -> None:
    opened = load_header(engine.context, run)
    run_all([reactivate(engine.context, opened, (ACCOUNT, "api"), name, "undo", "asked")], engine.clock)


def test_undo_leaves_alone_what_is_not_ours() -> None:
    engine, run = after(lambda aws: aws.set("api", "AKIAAPIOLD", "Inactive"))
    undo(engine, run)
    assert outcome(engine, run)[0] == "already_inactive"
    assert engine.aws.writes == []


def test_undo_of_what_is_gone_or_denied_or_lost_says_so() -> None:
    engine, run = after(lambda _aws: None)
    engine.aws.users[ACCOUNT, "api"].pop(0)
    undo(engine, run)
    assert outcome(engine, run)[0] == "gone"

    engine, run = after(lambda _aws: None)
    engine.aws.users.clear()
    undo(engine, run)
    assert outcome(engine, run)[0] == "gone"

    engine, run = after(lambda _aws: None)
    failing(engine, ("set_status", "before", DENIED))
    undo(engine, run)
    assert outcome(engine, run) == ("failed", "AccessDenied: access denied: iam:UpdateAccessKey")
    undo(engine, run)
    assert outcome(engine, run)[0] == "undone"

    engine, run = after(lambda _aws: None)
    failing(engine, *[("set_status", "after", CUT)] * 9)
    undo(engine, run)
    assert outcome(engine, run) == ("failed", "no try to reactivate it succeeded")
    undo(engine, run)
    assert outcome(engine, run)[0] == "undone"
    assert "unsure" in engine.kinds(run)


def test_an_undo_cut_off_at_any_point_is_finished() -> None:
    for steps in range(1, 9):
        engine, run = after(lambda _aws: None)
        opened = load_header(engine.context, run)
        work = one_call_at_a_time(
            reactivate(engine.context, opened, (ACCOUNT, "api"), "AKIAAPIOLD", "undo", "asked")
        )
        for _ in range(steps):
            next(work, None)
        work.close()
        undo(engine, run)
        assert outcome(engine, run)[0] == "undone"
        assert engine.aws.status("api", "AKIAAPIOLD") == "Active"


def test_a_worker_thought_dead_does_not_deactivate_after_a_rollback() -> None:
    for steps in range(4, 9):
        engine = VirtualEngine(pair())
        run = engine.open(plan_for(engine.aws))
        opened = load_header(engine.context, run)
        ((user, planned),) = opened.users().items()
        late = one_call_at_a_time(execute_user(engine.context, opened, user, planned))
        for _ in range(steps):
            next(late)
        if "intent" not in engine.kinds(run):
            continue
        undo(engine, run)
        run_all([late], engine.clock)
        assert engine.aws.status("api", "AKIAAPIOLD") == "Active", steps
        assert outcome(engine, run)[0] in ("undone", "rolled_back")


def test_a_write_that_arrives_after_the_rollback_is_brought_back() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    opened = load_header(engine.context, run)
    ((user, planned),) = opened.users().items()
    rolled_back: list[bool] = []

    def meanwhile(call: str) -> None:
        # The call hangs on its way; the worker is thought dead, and the step is rolled back.
        if call == "set_status" and not rolled_back:
            rolled_back.append(True)
            undo(engine, run)

    engine.aws.before = meanwhile
    run_all([execute_user(engine.context, opened, user, planned)], engine.clock)
    assert engine.aws.status("api", "AKIAAPIOLD") == "Active"
    assert engine.aws.writes[-1] == ("api", "AKIAAPIOLD", "Active")
    assert outcome(engine, run)[0] == "rolled_back"
    assert "taken over" in outcome(engine, run)[1]


def test_another_runs_work_on_the_key_to_stay_holds_the_step() -> None:
    aws = pair()
    aws.users[ACCOUNT, "api"][0].created = NOW - timedelta(days=80)
    engine = VirtualEngine(aws)
    first = engine.open(plan_for(aws))
    plan = make_plan(
        snapshot(aws), Policy(), NOW, overrides=Overrides(keep=("AKIAAPIOLD",), force={"AKIAAPINEW": "no"})
    )
    engine.run()
    assert engine.states(first)["AKIAAPIOLD"] == "unwatched"
    second = engine.open(plan)
    aws.stale = lambda: timedelta(minutes=5)  # it still shows both keys active
    engine.run()
    assert outcome(engine, second)[0] == "held"
    assert f"run {first} is at work" in outcome(engine, second)[1]
    assert engine.aws.status("api", "AKIAAPINEW") == "Active"


def test_a_key_that_a_later_run_has_written_is_that_runs() -> None:
    engine, first = after(lambda _aws: None)
    engine.aws.set("api", "AKIAAPIOLD", "Active")
    engine.clock.sleep(3600)
    second = engine.open(plan_for(engine.aws))
    engine.run()
    assert engine.states(second)["AKIAAPIOLD"] == "unwatched"
    undo(engine, first)
    assert engine.states(first)["AKIAAPIOLD"] == "changed"
    assert f"run {second} has set it since" in outcome(engine, first)[1]
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"


def test_waits_of_different_users_overlap() -> None:
    aws = FakeAws(small_company().clock)
    for number in range(30):
        aws.add(f"user{number}", key(f"AKIAOLD{number}", 80), key(f"AKIANEW{number}", 20, used(1)))
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))
    engine.run()
    assert set(engine.states(run).values()) == {"unwatched"}
    assert engine.clock.now() - NOW < timedelta(seconds=10)


def test_a_full_disk_in_the_middle_stops_before_the_next_write(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VirtualEngine(small_company())
    run = engine.open(plan_for(engine.aws))
    original = engine.ledger.append

    def append(*args: object, **named: object) -> object:
        if args[1] == "intent":
            raise StateFullError("the state cannot be written: database or disk is full")
        return original(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.ledger, "append", append)
    with pytest.raises(StateFullError):
        engine.run()
    assert engine.aws.writes == []
    assert engine.record(run).state == "applying"


def test_no_entries_no_run() -> None:
    with pytest.raises(BadInputError, match="there is no such run"):
        RunProjection().record()
    engine = VirtualEngine(pair())
    engine.ledger.append("r-odd", "stopped", {"who": "x", "why": "y"}, at=NOW)
    with pytest.raises(BadInputError, match="does not begin with its opening"):
        open_run(engine.ledger.entries("r-odd")[0])


def test_what_an_undo_overtook_says_nothing_new() -> None:
    engine, run = after(lambda _aws: None)
    undo(engine, run)
    before = RunProjection(engine.ledger.entries(run)).facts
    of = (ACCOUNT, "api", "AKIAAPIOLD")
    for late in (WatchEnded(*of, "settled", "fine"), StatusConfirmed(*of, "Active", 3, {})):
        engine.ledger.append(run, kind_of(late), event_body(late), at=engine.clock.now())
        assert RunProjection(engine.ledger.entries(run)).facts == before
    assert before[of].state == "undone"


def test_without_probes_there_is_nothing_to_ask() -> None:
    probes = NoProbes()
    assert probes.probes_for(Policy(), ACCOUNT, "api") == ()
    for asked in (probes.interval, probes.deadline, probes.check):
        with pytest.raises(KeyError):
            asked(Policy(), "web")


def test_a_step_that_the_plan_holds_stays_held() -> None:
    aws = pair()
    aws.add("busy", key("AKIABUSY1", 80, used(1)), key("AKIABUSY2", 30, used(1)))
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))
    engine.run()
    held = next(step for step in engine.record(run).steps if step.user == "busy")
    assert (held.state, held.key) == ("held", "AKIABUSY1")
    assert engine.record(run).state == "unwatched"


def test_others_at_work_on_a_user_all_the_time() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))

    def busy(call: str) -> None:
        if call == "list_keys":
            claim = engine.ledger.claim(ACCOUNT, "api")
            engine.ledger.append("r-other", "kept", {}, at=engine.clock.now(), claim=claim, bump_epoch=True)

    engine.aws.before = busy
    engine.run()
    assert outcome(engine, run) == ("failed", "others were at work on this user")
    assert engine.aws.writes == []


def test_what_is_said_last_is_dropped_where_others_took_over() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    turn = UserLease(engine.context, load_header(engine.context, run), (ACCOUNT, "api"))
    engine.ledger.append("r-other", "kept", {}, at=NOW, claim=turn.claim, bump_epoch=True)
    turn.try_record(StepFailed(ACCOUNT, "api", "AKIAAPIOLD", "read", "", "late"))
    assert engine.kinds(run) == ["opened"]


def test_a_key_that_another_run_took_during_an_undo_is_left_to_it() -> None:
    engine, run = after(lambda _aws: None)
    opened = load_header(engine.context, run)
    work = one_call_at_a_time(
        reactivate(engine.context, opened, (ACCOUNT, "api"), "AKIAAPIOLD", "undo", "asked")
    )
    for _ in range(4):
        next(work)
    work.close()
    engine.clock.sleep(3600)
    engine.aws.set("api", "AKIAAPIOLD", "Active")
    second = engine.open(plan_for(engine.aws))
    engine.run()
    assert engine.states(second)["AKIAAPIOLD"] == "unwatched"
    run_all(
        [execute_user(engine.context, opened, user, steps) for user, steps in opened.users().items()],
        engine.clock,
    )
    assert outcome(engine, run)[0] == "changed"
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"


def test_a_foreign_hand_before_the_next_key_of_a_user_brings_the_first_back() -> None:
    aws = small_company()
    aws.users = {(ACCOUNT, "batch"): aws.users[ACCOUNT, "batch"]}
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws))

    def meanwhile(call: str) -> None:
        confirmed = engine.kinds(run)[-1] in ("confirmed", "verdict")
        if call == "list_keys" and confirmed and len(aws.writes) == 1:
            for name in ("AKIABATCH2", "AKIABATCH3"):
                aws.set("batch", name, "Inactive")

    aws.before = meanwhile
    engine.run()
    assert aws.status("batch", "AKIABATCH1") == "Active"
    assert engine.states(run)["AKIABATCH1"] == "rolled_back"


def test_a_peer_that_goes_on_with_our_deactivation_is_not_undone_by_our_late_write() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    opened = load_header(engine.context, run)
    ((user, planned),) = opened.users().items()
    peers: list[bool] = []

    def meanwhile(call: str) -> None:
        if call == "set_status" and not peers:
            peers.append(True)
            run_all([execute_user(engine.context, opened, user, planned)], engine.clock)

    engine.aws.before = meanwhile
    run_all([execute_user(engine.context, opened, user, planned)], engine.clock)
    assert outcome(engine, run)[0] == "unwatched"
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"


def bump(engine: VirtualEngine) -> None:
    """Others take the user over."""
    claim = engine.ledger.claim(ACCOUNT, "api")
    engine.ledger.append("r-other", "kept", {}, at=engine.clock.now(), claim=claim, bump_epoch=True)


def test_others_that_finish_the_step_in_the_last_moment_leave_nothing_to_say() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    tries: list[str] = []

    def busy(call: str) -> None:
        if call == "list_keys":
            tries.append(call)
            if len(tries) == 5:
                engine.aws.before = lambda _call: None
                carry(engine, run)
            else:
                bump(engine)

    engine.aws.before = busy
    carry(engine, run)
    assert engine.kinds(run)[-2:] == ["confirmed", "verdict"]


def test_an_undo_that_others_never_let_through_changes_nothing() -> None:
    engine, run = after(lambda _aws: None)
    engine.aws.before = lambda call: bump(engine) if call == "list_keys" else None
    undo(engine, run)
    assert outcome(engine, run)[0] == "unwatched"
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"


def test_an_undo_ends_the_turn_of_a_step_that_is_about_to_be_taken() -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    opened, user = load_header(engine.context, run), (ACCOUNT, "api")
    work = one_call_at_a_time(execute_user(engine.context, opened, user, opened.users()[user]))
    asked: list[str] = []
    engine.aws.before = asked.append
    while "last_used" not in asked:
        next(work)
    list(hold_key(engine.context, opened, user, "AKIAAPIOLD", "undone"))
    list(work)
    assert engine.states(run)["AKIAAPIOLD"] == "held"
    assert engine.aws.writes == []


def test_an_undo_that_others_never_let_hold_a_key_back_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VirtualEngine(pair())
    run = engine.open(plan_for(engine.aws))
    facts = UserLease.facts

    def meanwhile(turn: UserLease, key: str) -> KeyFacts:
        known = facts(turn, key)
        bump(engine)
        return known

    monkeypatch.setattr(UserLease, "facts", meanwhile)
    opened = load_header(engine.context, run)
    with pytest.raises(FencedError, match="not certain that AKIAAPIOLD is still active"):
        list(hold_key(engine.context, opened, (ACCOUNT, "api"), "AKIAAPIOLD", "undone"))


def test_an_intent_that_another_run_has_overtaken_is_passed_on() -> None:
    engine, run = begun(5)
    assert (engine.kinds(run)[-1], engine.aws.writes) == ("intent", [])
    engine.clock.sleep(3600)
    second = engine.open(plan_for(engine.aws))
    carry(engine, second)
    carry(engine, run)
    assert outcome(engine, run)[0] == "changed"
    assert outcome(engine, second)[0] == "unwatched"


def test_a_clock_that_is_set_back_holds_nothing_up_for_as_long() -> None:
    clock = VirtualClock()

    def waits() -> StepCoroutine[None]:
        yield 1.0

    def sets_back() -> StepCoroutine[None]:
        clock.time -= timedelta(hours=1)
        yield 0

    run_all([waits(), sets_back()], clock)
    assert clock.now() <= NOW - timedelta(hours=1) + timedelta(minutes=1)


def test_a_reactivation_that_was_cut_off_is_finished_before_a_user_is_gone_on_with() -> None:
    engine, run = after(lambda _aws: None)
    opened = load_header(engine.context, run)
    turn = UserLease(engine.context, opened, (ACCOUNT, "api"))
    turn.acquire(
        "AKIAAPIOLD", "Active", "undo", {"AKIAAPIOLD": "Inactive"}, "asked"
    )  # and here it was cut off
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"
    steps = opened.users()[ACCOUNT, "api"]
    run_all([execute_user(engine.context, opened, (ACCOUNT, "api"), steps)], engine.clock)
    assert engine.aws.status("api", "AKIAAPIOLD") == "Active"
    assert outcome(engine, run)[0] == "undone"
