"""A rotation from an old key to a young one, with an application that reads the store all the while."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sparekey.app.rotation import handovers
from sparekey.app.run_service import _RollbackNotices
from sparekey.aws.errors import UnreachableError
from sparekey.aws.iam_policies import rotate_policy
from sparekey.aws.key_deletion import AccessKeyDeleter
from sparekey.cli.commands.worker import outcome_line
from sparekey.errors import BadInputError
from sparekey.handover import CreatedKey, Handovers
from sparekey.ledger.events import DeletionSkipped, KeyDeleted
from sparekey.model import RunRecord
from sparekey.notify import Message, of_rollback
from sparekey.policy import Policy
from sparekey.runs.service import RunService
from sparekey.sandbox.scenario import Fail, SlowNewKeys
from support.rotation_lab import ACCOUNT, OLD, PARAMETER, SECRETS_MANAGER, RotationLab, only_step


@pytest.fixture
def lab(tmp_path: Path) -> RotationLab:
    return RotationLab(tmp_path)


def begin(lab: RotationLab) -> tuple[RunService, RunRecord]:
    service = lab.service()
    return service, service.apply(lab.plan(), lab.policy)


def secrets_of(lab: RotationLab) -> list[bytes]:
    return [key.secret.encode() for key in lab.aws.sandbox.state.keys.values()]


@pytest.mark.parametrize("store", [SECRETS_MANAGER, PARAMETER])
def test_a_user_ends_with_one_young_key_and_the_application_is_never_refused(
    store: str, tmp_path: Path
) -> None:
    lab = RotationLab(tmp_path, store)
    (step,) = lab.plan().steps
    assert (step.action, step.key, step.keep, step.store) == ("rotate", OLD, None, store)
    service, record = begin(lab)
    new = only_step(record).keep
    assert (record.state, only_step(record).state) == ("moving", "moving")
    assert new is not None
    assert lab.statuses() == {OLD: "Active", new: "Active"}
    assert lab.stored() == {
        "AWS_ACCESS_KEY_ID": new,
        "AWS_SECRET_ACCESS_KEY": lab.aws.sandbox.state.keys[new].secret,
        "region": "us-east-1",
    }
    lab.days(3)
    record = service.resume(record.id)
    assert only_step(record).state == "moving"
    assert only_step(record).rotation is not None
    assert "less than 7 days ago" in only_step(record).why
    assert lab.statuses()[OLD] == "Active"
    lab.days(6)
    record = service.resume(record.id)
    assert lab.statuses() == {OLD: "Inactive", new: "Active"}
    assert record.state == "unwatched"
    assert lab.refused == []
    state = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert new.encode() in state
    assert not any(secret in state for secret in secrets_of(lab))


def test_an_application_that_does_not_move_keeps_the_old_key_active_and_is_named(lab: RotationLab) -> None:
    baked_in = lab.stored()
    service, record = begin(lab)
    for _ in range(12):
        lab.aws.sandbox.advance(timedelta(days=3))
        lab.application_calls(baked_in)
    record = service.resume(record.id)
    step = only_step(record)
    assert (record.state, step.state) == ("moving", "stalled")
    assert step.rotation is not None
    assert step.rotation.waiting == ("Boto3 etl from 127.0.0.1",)
    heard: list[Message] = []
    notices = _RollbackNotices(service, lab.clock, lambda run, step: heard.append(of_rollback(run, step)))
    for entry in service._state.ledger.entries(record.id):
        notices.handle(entry)
    (message,) = heard
    assert message.subject == f"sparekey: applications of etl in {ACCOUNT} have not moved to {step.keep}"
    assert "Not moved: Boto3 etl from 127.0.0.1" in message.text
    assert (message.event, message.urgent) == ("rotation", True)
    assert "STALLED" in outcome_line(step)
    assert lab.statuses()[OLD] == "Active"
    assert lab.refused == []


def test_undo_before_the_move_gives_the_application_its_old_key_and_leaves_the_new_one_active(
    lab: RotationLab,
) -> None:
    service, record = begin(lab)
    undone = service.undo(record.id)
    assert (undone.state, only_step(undone).state) == ("undone", "reverted")
    assert lab.application_calls() == OLD
    assert set(lab.statuses().values()) == {"Active"}
    assert service.undo(record.id).state == "undone"


def test_undo_after_the_move_reactivates_the_old_key_before_the_store_has_it_again(lab: RotationLab) -> None:
    service, record = begin(lab)
    lab.days(9)
    record = service.resume(record.id)
    assert lab.statuses()[OLD] == "Inactive"
    undone = service.undo(record.id)
    assert only_step(undone).state == "undone"
    assert lab.application_calls() == OLD
    assert lab.refused == []


def test_the_store_is_left_alone_where_the_old_key_is_off(lab: RotationLab) -> None:
    service, record = begin(lab)
    lab.aws.sandbox.state.keys[OLD].change("Inactive", lab.clock.now())
    undone = service.undo(record.id)
    assert "is not active, so secretsmanager:prod/etl keeps" in only_step(undone).why
    assert lab.application_calls() == only_step(record).keep
    assert lab.refused == []


def test_a_key_that_is_usable_late_and_flaps_is_published_only_when_it_works(lab: RotationLab) -> None:
    lab.aws.sandbox.state.faults.append(SlowNewKeys(seconds=10.0))
    _, record = begin(lab)
    assert only_step(record).state == "moving"
    lab.application_calls()
    assert lab.refused == []


def test_a_secret_that_no_store_takes_leaves_an_inactive_key_that_only_delete_orphan_removes(
    lab: RotationLab,
) -> None:
    lab.aws.sandbox.state.faults.append(
        Fail(action="secretsmanager:PutSecretValue", code="InternalServiceError", status=400)
    )
    service, record = begin(lab)
    step = only_step(record)
    assert (record.state, step.state) == ("failed", "orphaned")
    assert of_rollback(record, step).subject.startswith("NEW KEY LOST: AKIA")
    assert "NEW KEY LOST" in outcome_line(step)
    orphan = next(key for key in lab.statuses() if key != OLD)
    assert lab.statuses() == {OLD: "Active", orphan: "Inactive"}
    assert step.release == f"sparekey delete --orphan {orphan}, then plan --rotate again"
    (held,) = lab.plan().steps
    assert (held.reason, orphan in held.why) == ("no-slot", True)
    deleter = AccessKeyDeleter.of_account(lab.aws.gateway.own_account())
    with pytest.raises(BadInputError, match="no run left"):
        service.orphan(OLD)
    assert isinstance(service.delete(service.orphan(orphan), deleter, orphan=True), KeyDeleted)
    assert lab.statuses() == {OLD: "Active"}


class CutOff(Handovers):
    """Creates the key, and is cut off before the secret is stored: or before anything."""

    def __init__(self, lab: RotationLab, *, created: bool, times: int = 1) -> None:
        super().__init__(handovers(lab.connection)._tools_for)
        self._lab, self._created, self._left = lab, created, times

    def create(
        self, policy: Policy, account: str, user: str, name: str, about_to_write: Callable[[], None]
    ) -> CreatedKey:
        if self._left:
            self._left -= 1
            about_to_write()
            if self._created:
                self._lab.connection.account(account).create_key(name)
            raise UnreachableError("no answer")
        return super().create(policy, account, user, name, about_to_write)


def test_a_key_whose_answer_was_lost_is_found_and_deactivated(lab: RotationLab) -> None:
    service = lab.service(CutOff(lab, created=True))
    record = service.apply(lab.plan(), lab.policy)
    assert only_step(record).state == "orphaned"
    assert sorted(lab.statuses().values()) == ["Active", "Inactive"]
    assert lab.application_calls() == OLD


def test_a_creation_that_never_happened_is_repeated_and_makes_one_key(lab: RotationLab) -> None:
    service = lab.service(CutOff(lab, created=False))
    record = service.apply(lab.plan(), lab.policy)
    record = service.resume(record.id) if only_step(record).state != "moving" else record
    assert only_step(record).state == "moving"
    assert len(lab.statuses()) == 2


def test_a_key_that_somebody_else_creates_meanwhile_is_left_alone(lab: RotationLab) -> None:
    class Meddled(CutOff):
        def creator_of(self, account: str, key: str, since: object) -> str:
            return f"arn:aws:iam::{ACCOUNT}:user/somebody"

    service = lab.service(Meddled(lab, created=True))
    record = service.apply(lab.plan(), lab.policy)
    assert only_step(record).state == "failed"
    assert set(lab.statuses().values()) == {"Active"}


def test_other_fields_that_change_meanwhile_are_not_lost(lab: RotationLab) -> None:
    class Edited(Handovers):
        def publish(self, policy: Policy, account: str, user: str, version: str, key_id: str):  # type: ignore[no-untyped-def]
            content = {**lab.stored(), "region": "eu-west-1"}
            lab.write(content)
            return super().publish(policy, account, user, version, key_id)

    service = lab.service(Edited(handovers(lab.connection)._tools_for))
    record = service.apply(lab.plan(), lab.policy)
    assert "other fields" in only_step(record).why
    assert (lab.stored()["region"], lab.application_calls()) == ("eu-west-1", OLD)


def test_an_orphan_that_was_used_is_kept(lab: RotationLab) -> None:
    service = lab.service(CutOff(lab, created=True))
    service.apply(lab.plan(), lab.policy)
    orphan = next(key for key in lab.statuses() if key != OLD)
    lab.aws.sandbox.state.keys[orphan].used(lab.clock.now(), "s3", "us-east-1")
    deleter = AccessKeyDeleter.of_account(lab.aws.gateway.own_account())
    kept = service.delete(service.orphan(orphan), deleter, orphan=True)
    assert isinstance(kept, DeletionSkipped)
    assert "somebody has its secret" in kept.why


@pytest.mark.parametrize(
    ("store", "service"),
    [(SECRETS_MANAGER, "secretsmanager"), (PARAMETER, "ssm")],
    ids=["secret", "parameter"],
)
def test_the_rotate_policy_is_what_a_rotation_asks_for(store: str, service: str, tmp_path: Path) -> None:
    lab = RotationLab(tmp_path, store)
    policy = rotate_policy([store])
    granted = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert "prod/etl" in json.dumps(policy)
    lab.aws.sandbox.state.accounts[ACCOUNT].users["operator"].allow = tuple(sorted(granted))
    lab.aws.calls.clear()
    service_, record = begin(lab)
    lab.days(9)
    record = service_.resume(record.id)
    assert only_step(record).state == "unwatched"
    assert only_step(service_.undo(record.id)).state == "undone"
    asked = lab.aws.call_names - {"sts:GetCallerIdentity"}
    assert asked <= granted
    kinds = (f"{service}:", "iam:Create")
    assert {action for action in asked if action.startswith(kinds)} == {
        action for action in granted if action.startswith(kinds)
    }
