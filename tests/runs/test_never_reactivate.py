"""Keys that only a person reactivates: no probe, no repair and no undo of the whole run brings them back."""

from datetime import timedelta

import pytest
from msgspec import structs

from sparekey.cli.commands.undo import _announcement
from sparekey.cli.commands.worker import outcome_line
from sparekey.ledger.events import RunOptions, UndoRequested
from sparekey.notify import of_rollback, of_run
from sparekey.policy import NeverReactivate, Policy
from sparekey.probes import ProbeResult
from sparekey.runs.projection import _with_probe_note
from sparekey.runs.reactivate import never_reactivates, reactivate
from sparekey.runs.reverse_script import reverse_commands
from sparekey.runs.scheduler import run_all
from sparekey.runs.worker import load_header
from support.clocks import NOW
from support.fake_aws import ACCOUNT, FakeAws, plan_for, small_company
from support.virtual_engine import FakeProbes, VirtualEngine

USER, KEY = (ACCOUNT, "api"), "AKIAAPIOLD"
RED = ProbeResult(healthy=False, output="HTTP 500")
BY_POLICY = Policy(never_reactivate=(NeverReactivate(user="api", reason="INC-7"),))
BARRED = "policy: [[never_reactivate]] 'api': INC-7"


def watched(hours: float = 24.0) -> tuple[VirtualEngine, FakeProbes, str]:
    aws = small_company()
    probes = FakeProbes({"web": ("api", "batch")})
    engine = VirtualEngine(aws, probes)
    return engine, probes, engine.open(plan_for(aws), RunOptions(watch=hours * 3600), BY_POLICY)


def test_an_unhealthy_probe_brings_back_all_keys_but_those() -> None:
    engine, probes, run = watched(hours=1.5)
    broken_at = NOW + timedelta(hours=1)
    probes.result_of = lambda _name: (
        RED if engine.clock.now() >= broken_at else ProbeResult(healthy=True, output="")
    )
    engine.run(until=broken_at + timedelta(minutes=5))
    states = engine.states(run)
    assert (states[KEY], states["AKIABATCH1"]) == ("watching", "rolled_back")
    step = next(step for step in engine.record(run).steps if step.key == KEY)
    assert step.never_reactivate == BARRED
    assert step.not_reactivated == "rollback"
    assert step.why == (
        f"probe web became unhealthy: HTTP 500; it is left Inactive; only a person may reactivate it ({BARRED}): "
        f"sparekey undo {run} --key {KEY}"
    )
    # Recorded once, however often the probe is asked, and the waves are stopped.
    assert engine.kinds(run).count("not-reactivated") == 1
    assert engine.kinds(run).count("stopped") == 1
    assert outcome_line(step) == "NOT REACTIVATED, only a person may reactivate it"
    back = next(step for step in engine.record(run).steps if step.key == "AKIABATCH1")
    assert outcome_line(back) == "rolled back"
    assert outcome_line(structs.replace(back, state="rollback_failed")).startswith("ROLLBACK FAILED")
    message = of_rollback(engine.record(run), step)
    assert message.subject == f"sparekey did not reactivate {KEY} of api in {ACCOUNT}"
    assert message.urgent
    assert KEY in of_run(engine.record(run)).text
    engine.run()
    step = next(step for step in engine.record(run).steps if step.key == KEY)
    assert step.state == "unwatched"
    assert step.why == f"probe web is unhealthy, and only a person may reactivate it ({BARRED})"
    assert engine.aws.status("api", KEY) == "Inactive"
    assert ("api", KEY, "Active") not in engine.aws.writes


def test_a_person_reactivates_it_by_name() -> None:
    engine, _probes, run = watched()
    engine.run(until=NOW + timedelta(hours=1))
    opened = load_header(engine.context, run)
    run_all((reactivate(engine.context, opened, USER, KEY, "undo", "asked"),), engine.clock)
    assert engine.states(run)[KEY] == "undone"
    assert engine.aws.status("api", KEY) == "Active"


def test_an_undo_of_the_whole_run_that_was_cut_off_leaves_it_to_a_person() -> None:
    engine, _probes, run = watched()
    engine.run(until=NOW + timedelta(hours=1))
    engine.context.record(run, UndoRequested("ops"))  # and whoever asked for it died before anything else
    engine.run(until=NOW + timedelta(hours=2))
    states = engine.states(run)
    assert (states[KEY], states["AKIABATCH1"]) == ("watching", "undone")
    step = next(step for step in engine.record(run).steps if step.key == KEY)
    assert step.not_reactivated == "undo"
    assert engine.aws.status("api", KEY) == "Inactive"


@pytest.mark.parametrize("cause", ["probe", "no-active-key"])
def test_nothing_that_happens_after_an_undo_of_the_whole_run_brings_it_back(cause: str) -> None:
    engine, probes, run = watched()
    engine.run(until=NOW + timedelta(hours=1))
    engine.context.record(run, UndoRequested("ops"))
    engine.run(until=NOW + timedelta(hours=2))
    if cause == "probe":
        probes.result_of = lambda _name: RED
    else:
        for name, status in engine.aws.statuses("api").items():
            if status == "Active":
                engine.aws.set("api", name, "Inactive")
    engine.run(until=NOW + timedelta(hours=15))
    step = next(step for step in engine.record(run).steps if step.key == KEY)
    assert step.not_reactivated == ("rollback" if cause == "probe" else "no-active-key")
    assert engine.aws.status("api", KEY) == "Inactive"
    assert ("api", KEY, "Active") not in engine.aws.writes


def test_a_user_without_an_active_key_gets_none_of_those_back() -> None:
    engine, _probes, run = watched()
    engine.run(until=NOW + timedelta(hours=1))
    for name, status in engine.aws.statuses("api").items():
        if status == "Active":
            engine.aws.set("api", name, "Inactive")
    engine.run(until=NOW + timedelta(hours=8))
    step = next(step for step in engine.record(run).steps if step.key == KEY)
    assert step.not_reactivated == "no-active-key"
    assert set(engine.aws.statuses("api").values()) == {"Inactive"}
    assert "only a person may reactivate it" in step.why


def test_a_run_ends_although_a_user_is_left_without_an_active_key() -> None:
    aws = small_company()
    engine = VirtualEngine(aws, FakeProbes({}))
    policy = Policy(never_reactivate=(NeverReactivate(user="batch"),))
    run = engine.open(plan_for(aws), RunOptions(), policy)

    def strike(_call: str) -> None:
        if aws.status("batch", "AKIABATCH1") == "Inactive":
            for name in ("AKIABATCH2", "AKIABATCH3"):
                aws.set("batch", name, "Inactive")

    aws.after = strike
    engine.run(until=NOW + timedelta(hours=1))
    states = engine.states(run)
    assert (states["AKIABATCH1"], states["AKIABATCH2"]) == ("unwatched", "already_inactive")
    step = next(step for step in engine.record(run).steps if step.key == "AKIABATCH1")
    assert step.not_reactivated == "no-active-key"
    assert aws.writes.count(("batch", "AKIABATCH1", "Active")) == 0


def test_what_stays_on_record() -> None:
    engine, _probes, run = watched()
    opened = load_header(engine.context, run)
    assert never_reactivates(opened, USER, KEY) == BARRED
    assert never_reactivates(opened, (ACCOUNT, "batch"), "AKIABATCH1") == ""
    assert never_reactivates(opened, USER, "AKIANOTHERE") == ""


@pytest.mark.parametrize("aws", [small_company()])
def test_the_way_back_by_hand_leaves_them_out(aws: FakeAws) -> None:
    plan = plan_for(aws)
    steps = tuple(
        structs.replace(step, never_reactivate="--never-reactivate\nrm -rf /") if step.key == KEY else step
        for step in plan.steps
    )
    lines = reverse_commands(structs.replace(plan, steps=steps))
    (line,) = (line for line in lines if KEY in line)
    assert line.startswith("# never reactivated without a person (--never-reactivate rm -rf /): aws iam")
    assert all("\n" not in line for line in lines)


def test_undo_announces_what_it_leaves_inactive() -> None:
    engine, _, run = watched()
    engine.run(until=NOW + timedelta(minutes=1))
    record = engine.record(run)
    total = sum(step.state in ("watching", "unwatched") for step in record.steps)
    assert _announcement(record, "").endswith(
        f"reactivates {total - 1} keys: {total - 1} in account {ACCOUNT}; "
        "1 is left Inactive: only --key reactivates it"
    )
    assert _announcement(record, KEY).endswith(f"reactivates 1 key: 1 in account {ACCOUNT}")


def test_a_probe_that_answers_the_same_again_is_shown_once() -> None:
    notes: tuple[str, ...] = ("stopped by x",)
    for result in ("green: fine", "green: fine", "red: HTTP 500", "green: fine"):
        notes = _with_probe_note(notes, "probe web is ", result)
    assert notes == (
        "stopped by x",
        *(f"probe web is {result}" for result in ("green: fine", "red: HTTP 500", "green: fine")),
    )
