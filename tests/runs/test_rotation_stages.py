"""Each stage of a rotation, and what it does where the world is not as it should be."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runs.test_rotation_crashes import USER, play
from sparekey.aws.errors import AwsError
from sparekey.handover import Handovers
from sparekey.ledger.events import KeyUsable, RevertIntended, RunOptions, UndoRequested, event_body, kind_of
from sparekey.ledger.records import FencedError
from sparekey.model import StepRecord
from sparekey.policy import Policy
from sparekey.probes import ProbeResult
from sparekey.runs import rotate
from sparekey.runs.change_windows import is_open
from sparekey.runs.context import RunContext, StepCoroutine, UserLease
from sparekey.runs.key_facts import KeyFacts, with_event
from sparekey.runs.revalidate import reason_not_to_rotate
from sparekey.runs.scheduler import run_inline
from sparekey.runs.worker import load_header, load_record
from sparekey.sandbox.scenario import Deny, Fail, SlowNewKeys
from support.clocks import NOW
from support.rotation_lab import ACCOUNT, COMPANY, OLD, QUICK, RotationLab, only_step
from support.virtual_engine import FakeProbes


class Stages:
    """One rotation, played piece by piece, in this process."""

    def __init__(self, home: Path, **options: Any) -> None:
        self.lab = RotationLab(home)
        self.service = self.lab.service()
        self.options = options
        self.run = self.service.apply(
            self.lab.plan(), self.lab.policy, options=options.get("options"), detach=True
        ).id

    def context(self, **more: Any) -> RunContext:
        """What the run is executed with."""
        return dataclasses.replace(self.service._context, **more)

    def play(self, **more: Any) -> StepRecord:
        """Execute what is due; the step as it is then."""
        play(self.lab, self.run, self.context(**more), 0)
        return self.step()

    def step(self) -> StepRecord:
        return only_step(load_record(self.context(), self.run))

    def key(self, name: str = OLD) -> Any:
        return self.lab.aws.sandbox.state.keys[name]

    def switch(self, name: str, status: str) -> None:
        """Somebody changes a key's status."""
        self.key(name).change(status, self.lab.clock.now())


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path)


class Fake(Handovers):
    """The handovers, with some of their answers replaced."""

    def __init__(self, stages: Stages, **answers: Callable[..., Any]) -> None:
        super().__init__(stages.service._context.handover._tools_for)  # type: ignore[union-attr]
        for name, answer in answers.items():
            setattr(self, name, answer)


def test_a_step_that_failed_for_good_waits_for_a_person(stages: Stages) -> None:
    stages.lab.aws.sandbox.state.faults.append(Deny(action="secretsmanager:DescribeSecret"))
    assert stages.play().state == "failed"
    before = load_record(stages.context(), stages.run).entries
    assert stages.play().state == "failed"
    assert load_record(stages.context(), stages.run).entries == before
    stages.lab.aws.sandbox.state.faults.clear()
    assert only_step(stages.service.resume(stages.run)).state == "moving"


def test_a_process_without_handovers_says_so_and_changes_nothing(stages: Stages) -> None:
    step = stages.play(handover=None)
    assert (step.state, "cannot hand over keys" in step.why) == ("failed", True)
    assert list(stages.lab.statuses()) == [OLD]


def test_a_refused_creation_is_a_failure_with_awss_reason(stages: Stages) -> None:
    stages.lab.aws.sandbox.state.faults.append(Deny(action="iam:CreateAccessKey"))
    step = stages.play()
    assert step.state == "failed"
    assert "CreateAccessKey" in step.why


@pytest.mark.parametrize("stage", ["before", "usable"])
def test_nothing_is_created_or_published_while_no_window_is_open(stage: str, tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    context = stages.context()
    header = load_header(context, stages.run)
    calls = {"before": 0, "usable": 1}[stage]

    def opens(*arguments: Any) -> bool:
        nonlocal calls
        calls -= 1
        return calls >= 0 and is_open(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotate, "is_open", opens)
        play(stages.lab, stages.run, context, 0)
    assert header.id == stages.run
    assert stages.step().state == {"before": "planned", "usable": "usable"}[stage]
    assert stages.lab.application_calls() == OLD
    assert stages.play().state == "moving"


def test_a_user_who_changed_since_the_plan_is_held(tmp_path: Path) -> None:
    def inactive(stages: Stages) -> None:
        stages.switch(OLD, "Inactive")

    def another(stages: Stages) -> None:
        stages.lab.connection.account(ACCOUNT).create_key("etl")

    for change, state in ((inactive, "already_inactive"), (another, "held")):
        stages = Stages(tmp_path / change.__name__)
        change(stages)
        assert stages.play().state == state, change.__name__
        assert len(stages.lab.statuses()) <= 2


def test_an_unhealthy_probe_holds_a_rotation_before_anything_is_created(stages: Stages) -> None:
    probes = FakeProbes({"web": ("etl",)})
    probes.result_of = lambda _name: ProbeResult(healthy=False, output="down")
    step = stages.play(probes=probes)
    assert (step.state, "probe web was not healthy" in step.why) == ("held", True)
    assert list(stages.lab.statuses()) == [OLD]


def test_who_signs_is_asked_again_before_a_key_is_created(stages: Stages) -> None:
    caller = stages.service._context.caller
    step = stages.play(caller_now=lambda: _caller_with(caller, (ACCOUNT, "etl")))
    assert (step.state, step.why) == ("held", "sparekey is running with credentials of this user")


def _caller_with(caller: Any, user: tuple[str, str]) -> Any:
    return msgspec.structs.replace(caller, users=frozenset({*caller.users, user}))


def test_a_policy_with_another_store_holds_the_step(stages: Stages) -> None:
    context = stages.context()
    header = load_header(context, stages.run)
    step = msgspec.structs.replace(header.plan.rotations[0], store="ssm:/elsewhere")
    seen = run_inline(UserLease(context, header, USER).list_keys(), stages.lab.clock)
    read = run_inline(UserLease(context, header, USER).read(seen), stages.lab.clock)
    held = reason_not_to_rotate(header, step, read, stages.lab.clock.now(), (context.caller,))
    assert held is not None
    assert "policy does not name ssm:/elsewhere" in held.why


def test_a_key_that_signs_as_somebody_else_is_never_published(stages: Stages) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:user/somebody"
    step = stages.play(handover=Fake(stages, identity_behind=lambda *_: arn))
    assert (step.state, f"signs as {arn}" in step.why) == ("failed", True)
    assert stages.lab.application_calls() == OLD


def test_a_key_that_aws_never_takes_is_not_published_and_tried_again(stages: Stages) -> None:
    stages.lab.aws.sandbox.state.faults.append(SlowNewKeys(seconds=100_000.0))
    impatient = msgspec.structs.replace(QUICK, usable_within=0.4)
    step = stages.play(retry_policy=impatient)
    assert (step.state, "AWS does not take" in step.why) == ("failed", True)
    assert stages.lab.application_calls() == OLD
    stages.lab.aws.sandbox.state.faults.clear()
    assert stages.play().state == "moving"


def moving(stages: Stages) -> str:
    """Bring it to where it waits; returns the new key."""
    step = stages.play()
    assert step.state == "moving"
    assert step.keep
    stages.lab.aws.sandbox.advance(timedelta(days=1))
    return step.keep


def test_an_old_key_that_somebody_else_deactivates_ends_the_rotation(stages: Stages) -> None:
    moving(stages)
    stages.switch(OLD, "Inactive")
    assert stages.play().state == "already_inactive"


def test_an_old_key_that_somebody_else_deletes_ends_the_rotation(stages: Stages) -> None:
    moving(stages)
    stages.switch(OLD, "Inactive")
    stages.lab.connection.account(ACCOUNT).write(
        "iam", "DeleteAccessKey", {"UserName": "etl", "AccessKeyId": OLD}
    )
    assert stages.play().state == "gone"


def test_a_new_key_that_somebody_deactivates_keeps_the_old_one(stages: Stages) -> None:
    new = moving(stages)
    stages.switch(new, "Inactive")
    step = stages.play()
    assert (step.state, f"{new}, the new key, is not active" in step.why) == ("moving", True)
    assert stages.lab.statuses()[OLD] == "Active"


def test_usage_that_cannot_be_read_keeps_the_old_key(stages: Stages) -> None:
    moving(stages)

    def denied(*_: Any) -> Any:
        raise AwsError("access denied: cloudtrail:LookupEvents")

    stages.lab.aws.sandbox.advance(timedelta(days=20))
    step = stages.play(read_usage=denied)
    assert (step.state, step.why) == (
        "moving",
        "usage could not be read: access denied: cloudtrail:LookupEvents",
    )
    stages.lab.aws.sandbox.advance(timedelta(days=1))
    assert stages.play(read_usage=None).state == "moving"
    assert stages.lab.statuses()[OLD] == "Active"


def test_a_deactivation_that_is_held_goes_back_to_waiting(stages: Stages) -> None:
    moving(stages)
    stages.lab.days(8)
    probes = FakeProbes({"web": ("etl",)})
    probes.result_of = lambda _name: ProbeResult(healthy=False, output="down")
    step = stages.play(probes=probes)
    assert (step.state, "probe web was unhealthy" in step.why) == ("moving", True)
    stages.lab.days(1)
    assert stages.play().state == "unwatched"


def test_a_key_that_another_rule_keeps_is_waited_for(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    moving(stages)
    monkeypatch.setattr(rotate, "choose", lambda *_: None)
    assert stages.play().why == "decided again, it is kept"


# The way back


def test_an_undo_that_died_is_completed_by_whoever_executes_the_run(stages: Stages) -> None:
    moving(stages)
    stages.context().record(stages.run, UndoRequested("ann"))
    assert stages.play().state == "reverted"
    assert stages.lab.application_calls() == OLD
    assert stages.play().state == "reverted"


def test_a_revert_that_died_is_completed(stages: Stages) -> None:
    new = moving(stages)
    lease = UserLease(stages.context(), load_header(stages.context(), stages.run), USER)
    lease.acquire_after(RevertIntended(*USER, OLD, new, "asked"))
    assert stages.step().state == "reverting"
    assert stages.play().state == "reverted"
    assert stages.lab.application_calls() == OLD


def lost(stages: Stages, *, created: bool) -> None:
    """The creation's answer is lost, and the process dies."""

    def create(_policy: Policy, account: str, _user: str, name: str, about: Callable[[], None]) -> Any:
        about()
        if created:
            stages.lab.connection.account(account).create_key(name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(stages.lab, stages.run, stages.context(handover=Fake(stages, create=create)), 0)
    assert stages.step().state == "creating"


def test_an_undo_settles_a_creation_first(stages: Stages) -> None:
    lost(stages, created=True)
    undone = stages.service.undo(stages.run)
    assert only_step(undone).state == "orphaned"
    assert sorted(stages.lab.statuses().values()) == ["Active", "Inactive"]
    assert only_step(stages.service.undo(stages.run)).state == "orphaned"


def test_an_undo_of_a_creation_that_never_happened_has_nothing_to_revert(stages: Stages) -> None:
    lost(stages, created=False)
    undone = stages.service.undo(stages.run)
    assert list(stages.lab.statuses()) == [OLD]
    assert undone.state == "undone"


def orphan_of(stages: Stages) -> str:
    return next(key for key in stages.lab.statuses() if key != OLD)


def test_an_orphan_beside_an_old_key_that_is_off_is_left_as_it_is(stages: Stages) -> None:
    lost(stages, created=True)
    stages.switch(OLD, "Inactive")
    step = stages.play()
    assert f"{OLD} is not active, so {orphan_of(stages)} is left" in step.why
    assert stages.lab.statuses()[orphan_of(stages)] == "Active"


def test_an_orphan_that_is_off_already_is_not_written(stages: Stages) -> None:
    lost(stages, created=True)
    stages.switch(orphan_of(stages), "Inactive")
    stages.lab.aws.sandbox.state.calls.clear()
    assert stages.play().state == "orphaned"
    assert not [call for call in stages.lab.aws.sandbox.state.calls if call.action == "iam:UpdateAccessKey"]


@pytest.mark.parametrize(
    ("code", "status", "state"), [("Throttling", 400, "orphaned"), ("AccessDenied", 403, "failed")]
)
def test_an_orphan_whose_deactivation_is_refused_is_tried_again_where_that_helps(
    stages: Stages, code: str, status: int, state: str
) -> None:
    lost(stages, created=True)
    fault = Fail(action="iam:UpdateAccessKey", code=code, status=status, times=1)
    stages.lab.aws.sandbox.state.faults.append(fault)
    assert stages.play().state == state


@pytest.mark.parametrize("times", [2, 99])
def test_a_revert_that_others_overtake_is_tried_again_and_then_reported(
    stages: Stages, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving(stages)
    real, left = rotate._revert_once, times

    def overtaken(*arguments: Any) -> StepCoroutine[None]:
        nonlocal left
        left -= 1
        if left >= 0:
            raise FencedError("taken over")
        yield from real(*arguments)

    monkeypatch.setattr(rotate, "_revert_once", overtaken)
    work = rotate.revert_handover(
        stages.context(), load_header(stages.context(), stages.run), USER, OLD, "asked"
    )
    if times == 99:
        with pytest.raises(FencedError):
            run_inline(work, stages.lab.clock)
    else:
        run_inline(work, stages.lab.clock)
        assert stages.step().state == "reverted"


def test_an_event_without_its_beginning_changes_nothing() -> None:
    event = KeyUsable(*USER, OLD, "AKIANEW", ("us-east-1",), 3)
    assert with_event(KeyFacts(), event, NOW) == KeyFacts()
    assert event_body(event)["checks"] == 3
    assert kind_of(event) == "usable"


def test_a_check_that_is_not_due_yet_asks_nobody(stages: Stages) -> None:
    stages.play()
    before = load_record(stages.context(), stages.run).entries
    assert stages.play().state == "moving"
    assert load_record(stages.context(), stages.run).entries == before


@pytest.mark.parametrize(
    ("action", "params", "state"),
    [
        ("DeleteAccessKey", {"UserName": "etl", "AccessKeyId": OLD}, "gone"),
        ("UpdateUser", {"UserName": "etl", "NewUserName": "etl2"}, "held"),
    ],
)
def test_a_key_that_is_gone_and_a_user_who_is_renamed_get_no_new_key(
    stages: Stages, action: str, params: dict[str, str], state: str
) -> None:
    stages.lab.connection.account(ACCOUNT).write("iam", action, params)
    assert stages.play().state == state
    assert [key.id for key in stages.lab.aws.sandbox.state.keys.values() if key.user.startswith("etl")] == [
        OLD
    ]


def test_a_key_that_was_stored_before_the_process_died_is_found_in_the_store(stages: Stages) -> None:
    handovers = Fake(stages)

    def create(*arguments: Any) -> Any:
        Handovers.create(handovers, *arguments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(stages.lab, stages.run, stages.context(handover=Fake(stages, create=create)), 0)
    step = stages.play()
    assert (step.state, len(stages.lab.statuses())) == ("moving", 2)


def test_an_undo_that_the_store_refuses_succeeds_when_it_is_repeated(stages: Stages) -> None:
    new = moving(stages)
    stages.lab.aws.sandbox.state.faults.append(Deny(action="secretsmanager:UpdateSecretVersionStage"))
    refused = only_step(stages.service.undo(stages.run))
    assert (refused.state, "access denied" in refused.why) == ("failed", True)
    assert stages.lab.application_calls() == new
    stages.lab.aws.sandbox.state.faults.clear()
    assert only_step(stages.service.undo(stages.run)).state == "reverted"
    assert stages.lab.application_calls() == OLD
    assert stages.lab.refused == []


def test_a_store_that_has_somebody_elses_key_is_never_written(stages: Stages) -> None:
    theirs = {"AWS_ACCESS_KEY_ID": "AKIASOMEBODYELSE2222", "AWS_SECRET_ACCESS_KEY": "x" * 40}
    stages.lab.write(theirs)
    step = stages.play()
    assert (step.state, "which is not a key of user etl" in step.why) == ("failed", True)
    assert stages.lab.stored() == theirs
    assert list(stages.lab.statuses()) == [OLD]


def test_a_run_that_is_stopped_deactivates_nothing_until_it_is_resumed(stages: Stages) -> None:
    moving(stages)
    stages.service.stop(stages.run)
    stages.lab.days(9)
    assert stages.play().state == "moving"
    assert stages.lab.statuses()[OLD] == "Active"
    assert only_step(stages.service.resume(stages.run)).state == "unwatched"


TWO_USERS = f"""{COMPANY}
[[account.user]]
name = "etl2"
key = [{{ id = "AKIASECONDSECONDSEC2", age = "400d", used = {{ ago = "1h", service = "ec2" }} }}]
[[account.secret]]
name = "prod/etl2"
user = "etl2"
"""


def test_the_first_wave_is_through_before_the_second_gets_a_key(tmp_path: Path) -> None:
    more = '[[handover]]\nuser = "etl2"\nstore = "secretsmanager:prod/etl2"\n'
    lab = RotationLab(tmp_path, more=more, company=TWO_USERS)
    service = lab.service()
    record = service.apply(lab.plan(), lab.policy, options=RunOptions(waves=(1, None)))
    assert [step.state for step in record.steps] == ["moving", "planned"]
    lab.days(9)
    record = service.resume(record.id)
    assert [step.state for step in record.steps] == ["unwatched", "moving"]
    assert lab.refused == []
    assert (record.wave, record.waves) == (2, 2)


@pytest.mark.parametrize("what", ["rotated by AWS", "pending"])
def test_a_secret_that_another_rotator_works_at_is_refused(stages: Stages, what: str) -> None:
    secret = stages.lab.aws.sandbox.state.secrets[f"{ACCOUNT}/us-east-1"]["prod/etl"]
    secret.rotates = what == "rotated by AWS"
    if what == "pending":
        params = {"SecretId": "prod/etl", "SecretString": "{}", "VersionStages": ["AWSPENDING"]}
        stages.lab.connection.account(ACCOUNT).write(
            "secretsmanager", "PutSecretValue", {**params, "ClientRequestToken": "2" * 32}
        )
    step = stages.play()
    message = {"rotated by AWS": "Secrets Manager itself rotates", "pending": "another rotation is at work"}[
        what
    ]
    assert (step.state, message in step.why) == ("failed", True)
    assert list(stages.lab.statuses()) == [OLD]
