"""The watch in virtual time: settled only what was observed, back at once what turned red."""

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa

from sparekey.aws.errors import DeniedError, UnreachableError
from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger.events import RunOptions, RunResumed, RunStopped, UndoRequested
from sparekey.policy import Policy
from sparekey.probes import ProbeResult
from sparekey.runs.change_windows import is_open, next_opening, parse_window
from sparekey.runs.context import KeyGateway
from sparekey.runs.reactivate import reactivate
from sparekey.runs.worker import ProjectionCache, load_header
from support.clocks import NOW
from support.fake_aws import FakeAws, key, plan_for, small_company, used
from support.virtual_engine import FakeProbes, VirtualEngine, one_call_at_a_time

DAY = 86400.0
GREEN = ProbeResult(healthy=True, output="fine")
RED = ProbeResult(healthy=False, output="HTTP 500")
BLIND = ProbeResult(healthy=None, output="cannot be asked")


def watched(
    users: Mapping[str, tuple[str, ...]] | None = None, **options: object
) -> tuple[VirtualEngine, FakeProbes, str]:
    aws = small_company()
    probes = FakeProbes(users or {"web": ("api", "batch"), "night": ("idle",)})
    engine = VirtualEngine(aws, probes)
    run = engine.open(plan_for(aws), RunOptions(watch=3 * DAY, **options))  # type: ignore[arg-type]
    return engine, probes, run


def test_all_green_to_the_end_is_settled() -> None:
    engine, probes, run = watched()
    engine.run()
    assert set(engine.states(run).values()) == {"settled"}
    record = engine.record(run)
    assert record.state == "settled"
    assert record.watch_until is not None
    assert engine.clock.now() >= record.watch_until
    # Three days, two probes once an hour: asked once each time, whoever asked for the next time.
    assert len(probes.checks) == pytest.approx(2 * 3 * 24, abs=8)
    assert engine.ledger.verify(run).broken == ()


def test_a_red_probe_brings_back_what_it_speaks_for_and_stops_the_waves() -> None:
    engine, probes, run = watched()
    broken_at = NOW + timedelta(days=2, minutes=3)
    probes.result_of = lambda name: RED if name == "web" and engine.clock.now() >= broken_at else GREEN
    engine.run(until=broken_at + timedelta(hours=1))
    assert engine.states(run) == {
        "AKIAAPIOLD": "rolled_back",
        "AKIABATCH1": "rolled_back",
        "AKIABATCH2": "rolled_back",
        "AKIAIDLE1": "watching",
    }
    step = engine.record(run).steps[0]
    assert "HTTP 500" in step.why
    assert engine.aws.status("api", "AKIAAPIOLD") == "Active"
    assert engine.aws.status("idle", "AKIAIDLE1") == "Inactive"
    back = [
        entry.at
        for entry in engine.ledger.entries(run, kinds=("intent",))
        if entry.body["status"] == "Active"
    ]
    # Within the probe's cadence and five seconds.
    assert max(back) - broken_at <= probes.every + timedelta(seconds=5)
    engine.run()
    assert engine.states(run)["AKIAIDLE1"] == "settled"
    assert engine.record(run).state == "rolled_back"


@pytest.mark.parametrize("call", ["list_keys", "set_status"])
@pytest.mark.parametrize("hours", [30, 72])
def test_a_rollback_that_the_line_is_cut_for_goes_on_by_itself(call: str, hours: int) -> None:
    engine, probes, run = watched({"web": ("api",)})
    broken_at = NOW + timedelta(hours=hours, minutes=-1)  # just before a probe is asked, or the watch ends
    back_at = broken_at + timedelta(minutes=7)
    probes.result_of = lambda _name: RED if broken_at <= engine.clock.now() and is_off() else GREEN

    def is_off() -> bool:
        return engine.aws.status("api", "AKIAAPIOLD") == "Inactive"

    def strike(asked: str) -> None:
        if asked == call and engine.clock.now() < back_at:
            raise UnreachableError("cut off")

    engine.run(until=broken_at - timedelta(seconds=20))
    assert engine.states(run)["AKIAAPIOLD"] == "watching"
    engine.aws.before = strike
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "rolled_back"
    confirmed = engine.ledger.entries(run, kinds=("confirmed",))[-1]
    assert confirmed.at - back_at < timedelta(minutes=2)
    assert engine.ledger.verify(run).broken == ()


def test_a_rollback_that_is_denied_is_tried_again_for_as_long_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sparekey.runs.monitor._MANY_TRIES", 6)
    engine, probes, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(hours=30))
    denied = [True]

    def strike(call: str) -> None:
        if call == "set_status" and denied:
            raise DeniedError("access denied", code="AccessDenied")

    engine.aws.before = strike
    probes.result_of = lambda _name: RED if engine.aws.status("api", "AKIAAPIOLD") == "Inactive" else GREEN
    engine.run(until=NOW + timedelta(hours=32))
    assert engine.states(run)["AKIAAPIOLD"] == "rollback_failed"
    assert engine.record(run).state == "rollback_failed"
    assert "AccessDenied: access denied" in engine.record(run).steps[0].why
    tries = [entry.at for entry in engine.ledger.entries(run, kinds=("failed",))]
    waits = [(later - sooner).total_seconds() for sooner, later in pairwise(tries)]
    assert waits[:7] == [5, 10, 20, 40, 50, 50, 300]  # as long as it is news, soon; later every five minutes
    denied.clear()
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "rolled_back"


def test_a_single_red_answer_is_asked_again_and_is_on_record() -> None:
    engine, probes, run = watched({"web": ("api",)})
    answers = iter([GREEN, GREEN, RED])
    probes.result_of = lambda _name: next(answers, GREEN)
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "settled"
    result = [(e.body["green"], e.body["again"]) for e in engine.ledger.entries(run, kinds=("probed",))]
    assert result == [(True, False), (False, False), (True, True)]


def test_a_step_does_not_start_while_a_probe_is_not_green() -> None:
    for answer, received in ((RED, "unhealthy before any"), (BLIND, "could not be asked")):
        engine, probes, run = watched({"web": ("api",)})
        probes.result_of = lambda _name, answer=answer: answer  # type: ignore[misc]
        engine.run()
        step = next(step for step in engine.record(run).steps if step.user == "api")
        assert step.state == "held"
        assert received in step.why
        assert engine.aws.status("api", "AKIAAPIOLD") == "Active"
        assert engine.states(run)["AKIAIDLE1"] == "unwatched"


def test_time_that_nobody_observed_is_never_settled() -> None:
    engine, _, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(days=1))
    engine.clock.sleep(4 * 3600)  # no worker was alive
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "unwatched"
    assert "was not asked from" in engine.record(run).steps[0].why
    assert "unobserved" in engine.kinds(run)


def test_a_worker_that_comes_back_after_the_end_of_the_watch_settles_nothing() -> None:
    engine, _, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(days=1))
    engine.clock.sleep(30 * DAY)
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "unwatched"


def test_a_probe_that_cannot_be_asked_observes_nothing() -> None:
    engine, probes, run = watched({"web": ("api",)})
    probes.result_of = lambda _name: (
        BLIND if engine.clock.now() > NOW + timedelta(days=2, hours=23) else GREEN
    )
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "unwatched"
    assert engine.aws.status("api", "AKIAAPIOLD") == "Inactive"


def test_without_a_probe_it_is_unwatched_at_once_or_held_where_policy_wants_one() -> None:
    aws = small_company()
    engine = VirtualEngine(aws)
    run = engine.open(plan_for(aws), RunOptions(watch=3 * DAY))
    engine.run()
    assert engine.record(run).state == "unwatched"
    strict = Policy(require_probe=True, probes=({"user": "api"},))
    aws = small_company()
    engine = VirtualEngine(aws, FakeProbes({"web": ("api",)}))
    run = engine.open(plan_for(aws, strict), RunOptions(watch=3 * DAY), strict)
    engine.run()
    assert engine.states(run)["AKIAIDLE1"] == "held"
    assert engine.states(run)["AKIAAPIOLD"] == "settled"


def test_the_kept_keys_use_shows_and_a_foreign_change_ends_our_part() -> None:
    engine, probes, run = watched({"web": ("api", "idle")})
    engine.run(until=NOW + timedelta(days=1))
    engine.aws.users["111122223333", "api"][1].last_used = used(-0.9)
    engine.aws.set("idle", "AKIAIDLE1", "Active")
    engine.run(until=NOW + timedelta(days=2))
    steps = {step.key: step for step in engine.record(run).steps}
    assert steps["AKIAIDLE1"].state == "changed"
    assert "AKIAAPINEW, the kept key, was used" in steps["AKIAAPIOLD"].why
    # Somebody switches it off again: it is theirs, and a red probe does not bring it back.
    engine.aws.set("idle", "AKIAIDLE1", "Inactive")
    probes.result_of = lambda _name: RED
    engine.run()
    assert engine.aws.status("idle", "AKIAIDLE1") == "Inactive"
    assert engine.aws.status("api", "AKIAAPIOLD") == "Active"


def test_a_user_left_without_a_key_by_somebody_else_gets_ours_back_at_the_next_look() -> None:
    engine, _, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(days=1))
    engine.aws.set("api", "AKIAAPINEW", "Inactive")
    engine.run(until=NOW + timedelta(days=1, hours=7))
    assert engine.aws.status("api", "AKIAAPIOLD") == "Active"
    step = engine.record(run).steps[0]
    assert step.state == "rolled_back"
    assert "without an active key" in step.why


def test_waves_wait_until_the_last_one_has_settled() -> None:
    users = {"all": ("api", "batch", "idle")}
    engine, _, run = watched(users, waves=(1, None))
    engine.run(until=NOW + timedelta(days=2))
    assert engine.states(run) == {
        "AKIAAPIOLD": "watching",
        "AKIABATCH1": "planned",
        "AKIABATCH2": "planned",
        "AKIAIDLE1": "planned",
    }
    assert engine.record(run).state == "watching"
    assert engine.record(run).steps[1].why == "waits for wave 2"
    engine.run()
    assert engine.record(run).state == "settled"
    assert (engine.record(run).wave, engine.record(run).waves) == (2, 2)


def test_waves_may_go_on_after_a_green_time() -> None:
    engine, _, run = watched({"all": ("api", "batch", "idle")}, waves=(1, 1), healthy_for=3600.0)
    engine.run(until=NOW + timedelta(minutes=59))
    assert engine.states(run)["AKIABATCH1"] == "planned"
    engine.run(until=NOW + timedelta(hours=3))
    assert set(engine.states(run).values()) == {"watching"}
    assert engine.record(run).wave == 3


def test_a_rollback_stops_the_waves_until_a_person_resumes() -> None:
    engine, probes, run = watched({"web": ("api",), "other": ("batch", "idle")}, waves=(1, None))
    probes.result_of = lambda name: (
        RED if name == "web" and engine.clock.now() > NOW + timedelta(hours=1) else GREEN
    )
    engine.run()
    assert engine.record(run).state == "stopped"
    assert engine.states(run)["AKIABATCH1"] == "planned"
    engine.clock.sleep(10)
    engine.context.record(run, RunResumed("a person"))
    engine.supervise(run, "again")
    engine.run()
    assert engine.states(run)["AKIABATCH1"] == "settled"
    assert engine.record(run).state == "rolled_back"


def test_what_cuts_looking_after_a_run_off_is_put_on_record_once() -> None:
    engine, _, run = watched({"web": ("api",)})
    for _ in range(2):
        engine.work.record_failure(run, "", ZeroDivisionError("by something that must not be told"))
    assert engine.kinds(run).count("stumbled") == 1
    (note,) = (note for note in engine.record(run).notes if "could not" in note)
    assert note.endswith("could not supervise the run: unexpected error: ZeroDivisionError")


def test_of_many_runs_only_the_last_few_are_kept_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparekey.runs.worker._KEPT", 1)
    engine, _, run = watched({"web": ("api", "idle")})
    engine.run(until=NOW + timedelta(hours=1))
    other = engine.open(plan_for(engine.aws), RunOptions(watch=3 * DAY))
    engine.run()
    records = ProjectionCache()
    assert [records.get(engine.ledger, name) for name in (run, other, run)] == [
        engine.record(name) for name in (run, other, run)
    ]
    assert len(records._folds) == 1
    # A chain that was cut, as by a restored copy: what was folded is not believed.
    with engine.ledger.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM sparekey_entries WHERE seq > 3"))
    assert records.get(engine.ledger, run).entries == 3


@pytest.mark.parametrize(("refusals", "end"), [(3, "unwatched"), (99, "planned")])
def test_an_account_that_cannot_be_carried_is_tried_again_for_an_hour(refusals: int, end: str) -> None:
    engine = VirtualEngine(small_company())
    engine.may_be_refused = True
    asked: list[float] = []

    def enter(account: str) -> KeyGateway:
        if len(asked) < refusals:
            asked.append((engine.clock.now() - NOW).total_seconds() / 60)
            raise RefusedError(f"account {account} cannot be reached")
        return engine.aws.gateway(account)

    engine.context = dataclasses.replace(engine.context, gateway_for=enter)
    engine.start()
    engine.may_be_refused = True
    run = engine.open(plan_for(engine.aws))
    engine.run()
    assert set(engine.states(run).values()) == {end}
    assert asked == [0, 1, 3, 7, 15, 31, 63][:refusals]
    assert engine.kinds(run).count("stumbled") == len(asked)
    if end == "planned":
        # Whoever resumes it begins to count anew.
        engine.context.record(run, RunResumed("a person"))
        engine.supervise(run, "again")
        engine.run()
        assert len(asked) == 14


def test_a_failed_wave_stops_the_next() -> None:
    engine, _, run = watched({"all": ("api", "batch", "idle")}, waves=(1, None))

    def before(call: str) -> None:
        if call == "set_status":
            raise DeniedError("access denied: iam:UpdateAccessKey", code="AccessDenied")

    engine.aws.before = before
    engine.run()
    assert engine.record(run).state == "stopped"
    assert engine.record(run).notes[-1].endswith("AKIAAPIOLD of user api is failed")


def test_windows_bind_deactivations_only() -> None:
    # NOW is a Monday, 09:00 UTC.
    engine, probes, run = watched({"all": ("api", "batch", "idle")}, windows=("Tue 10:00-11:00",))
    engine.run(until=NOW + timedelta(hours=24))
    assert set(engine.states(run).values()) == {"planned"}
    assert engine.record(run).state == "waiting"
    note = "no change window is open: the remaining keys wait until 2026-03-03 10:00:00 UTC"
    assert engine.record(run).notes == (note,)
    engine.run(until=NOW + timedelta(hours=26))
    assert set(engine.states(run).values()) == {"watching"}
    probes.result_of = lambda _name: RED
    engine.run(until=NOW + timedelta(hours=27, minutes=1))
    assert set(engine.states(run).values()) == {"rolled_back"}


def test_a_window_that_closes_in_the_middle_goes_on_at_the_next() -> None:
    aws = FakeAws(small_company().clock)
    for number in range(40):
        aws.add(f"user{number:03}", key(f"AKIAOLD{number:03}", 80), key(f"AKIANEW{number:03}", 20, used(1)))
    aws.before = lambda _call: aws.clock.sleep(0.5)
    engine = VirtualEngine(aws, FakeProbes({}))
    run = engine.open(plan_for(aws), RunOptions(windows=("Mon-Tue 08:00-09:01",)))
    engine.run(until=NOW + timedelta(hours=2))
    first = list(engine.states(run).values())
    assert 0 < first.count("unwatched") < 40
    assert first.count("planned") == 40 - first.count("unwatched")
    engine.run()
    assert set(engine.states(run).values()) == {"unwatched"}


def test_stop_binds_the_rest_and_the_watch_goes_on() -> None:
    engine, _, run = watched({"all": ("api", "batch", "idle")}, waves=(1, None))
    engine.run(until=NOW + timedelta(days=1))
    engine.context.record(run, RunStopped("a person", "asked"))
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "settled"
    assert engine.states(run)["AKIABATCH1"] == "planned"
    assert engine.record(run).state == "stopped"


def test_an_undo_that_was_cut_off_is_finished_by_the_supervision() -> None:
    engine, _, run = watched({"all": ("api", "batch", "idle")})
    engine.run(until=NOW + timedelta(hours=1))
    engine.context.record(run, UndoRequested("a person"))
    for user, name in (("api", "AKIAAPIOLD"), ("idle", "AKIAIDLE1")):
        opened = load_header(engine.context, run)
        cut = one_call_at_a_time(
            reactivate(engine.context, opened, ("111122223333", user), name, "undo", "asked")
        )
        for _ in range(4):
            next(cut)
        cut.close()
    engine.run(until=NOW + timedelta(hours=2))
    assert set(engine.states(run).values()) == {"undone"}
    assert engine.record(run).state == "undone"


@pytest.mark.parametrize(
    "text",
    ["", "Mon", "Mon 9:00-10:00", "Mon-Foo 09:00-10:00", "Mon 09:00-25:00", "Mon 09:00-10:00 Mars/City"],
)
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is not a change window"):
        parse_window(text)


def test_windows_know_zones_nights_and_weeks() -> None:
    assert is_open(("Mon-Thu 09:00-16:00 Europe/Berlin",), NOW)
    assert not is_open(("Mon-Thu 11:00-16:00 Europe/Berlin",), NOW)
    assert is_open(("Sun 22:00-10:00",), NOW)
    assert is_open(("Sat-Mon 08:00-10:00",), NOW)
    assert next_opening(("Mon 08:00-08:30", "Fri 08:00-08:30"), NOW) == NOW + timedelta(days=4, hours=-1)


def test_of_two_probes_that_turn_red_together_the_first_brings_back() -> None:
    engine, probes, run = watched({"jobs": ("api",), "web": ("api",)})
    late = NOW + timedelta(hours=2)
    probes.result_of = lambda _name: RED if engine.clock.now() > late else GREEN
    engine.run()
    # The first one that is confirmed brings the key back; the other need not be waited for.
    assert engine.record(run).steps[0].why == "probe jobs became unhealthy: HTTP 500"
    turned = engine.ledger.entries(run, kinds=("probed",))
    assert {entry.body["probe"] for entry in turned if entry.body["green"] is False} == {"jobs", "web"}
    assert len([note for note in engine.record(run).notes if note.startswith("stopped")]) == 1


def test_a_red_probe_after_a_stop_still_brings_back() -> None:
    engine, probes, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(hours=2))
    engine.context.record(run, RunStopped("a person", "asked"))
    probes.result_of = lambda _name: RED
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "rolled_back"


def test_one_stale_listing_does_not_give_a_key_away() -> None:
    engine, _, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(hours=5))
    assert engine.states(run)["AKIAAPIOLD"] == "watching"
    lags = iter([timedelta(hours=12)])  # the first listing of the look is of before the run
    engine.aws.stale = lambda: next(lags, timedelta(0))
    engine.run(until=NOW + timedelta(hours=7))
    assert next(lags, None) is None
    assert engine.states(run)["AKIAAPIOLD"] == "watching"


def test_a_look_that_cannot_read_is_no_verdict() -> None:
    engine, _, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(hours=2))

    def denied(call: str) -> None:
        raise DeniedError(f"access denied: {call}", code="AccessDenied")

    engine.aws.before = denied
    engine.run(until=NOW + timedelta(hours=20))
    (step,) = (step for step in engine.record(run).steps if step.key == "AKIAAPIOLD")
    assert "3 looks at its user's keys were refused" in step.why
    engine.run()
    (step,) = (step for step in engine.record(run).steps if step.key == "AKIAAPIOLD")
    assert step.state == "settled"
    # The probes carried it, and whoever reads the verdict is told that they did alone.
    assert step.why.startswith("web healthy to the end; ")
    assert "12 looks at its user's keys were refused, last at 2026-03-05 09:00:00 UTC" in step.why
    assert step.why.endswith("access denied: list_keys")


def test_a_probe_that_is_silent_in_the_last_moment_may_answer_a_little_later() -> None:
    engine, probes, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(hours=1))
    end = engine.record(run).watch_until
    assert end is not None
    silent = (end - timedelta(minutes=1), end + timedelta(minutes=30))
    probes.result_of = lambda _name: BLIND if silent[0] < engine.clock.now() < silent[1] else GREEN
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "settled"


def test_a_long_silence_is_told_once() -> None:
    engine, probes, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(hours=1))
    probes.result_of = lambda _name: BLIND
    engine.run()
    assert engine.kinds(run).count("unobserved") == 1
    assert engine.states(run)["AKIAAPIOLD"] == "unwatched"
    assert len([note for note in engine.record(run).notes if "is unknown" in note]) == 1


def test_a_watch_whose_observations_were_lost_has_seen_nothing() -> None:
    engine, _, run = watched({"web": ("api",)})
    engine.run(until=NOW + timedelta(days=1))
    with engine.ledger.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM sparekey_observations"))
    engine.run()
    assert engine.states(run)["AKIAAPIOLD"] == "unwatched"
