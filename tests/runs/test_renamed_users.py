"""A user is renamed while a run is at work: the key is followed, and "not found" is never called gone."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from sparekey.aws.errors import DeniedError, MalformedResponseError, NotFoundError
from sparekey.cli.run_events import run_exit_code
from sparekey.ledger.events import KeyDeleted, RunOptions
from sparekey.model import User
from sparekey.probes import ProbeResult
from sparekey.runs.context import UserLease
from sparekey.runs.deactivate import execute_user
from sparekey.runs.deletion import deletable, delete
from sparekey.runs.reactivate import reactivate
from sparekey.runs.scheduler import run_all, run_inline
from sparekey.runs.user_lookup import list_current_user
from sparekey.runs.worker import load_header
from support.clocks import NOW
from support.fake_aws import ACCOUNT, FakeAws, key, plan_for, small_company, used
from support.virtual_engine import FakeProbes, VirtualEngine, one_call_at_a_time

OLD, NEW = "AKIAAPIOLD", "AKIAAPINEW"
DAY = 86400.0
RENAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "to a free name": (("api", "api2"),),
    "to a free name, and another user takes the old one": (("api", "api2"), ("web", "api")),
    "two users take each other's name": (("api", "web"), ("web", "api")),
}
renamed = pytest.mark.parametrize("pairs", RENAMES.values(), ids=RENAMES)


def company() -> FakeAws:
    aws = small_company()
    aws.users = {(ACCOUNT, "api"): aws.users[ACCOUNT, "api"]}
    aws.add("web", key("AKIAWEB", 30, used(1)))
    return aws


def applied() -> tuple[VirtualEngine, str]:
    engine = VirtualEngine(company())
    run = engine.open(plan_for(engine.aws))
    engine.run()
    assert engine.aws.status("api", OLD) == "Inactive"
    return engine, run


def undo(engine: VirtualEngine, run: str) -> None:
    opened = load_header(engine.context, run)
    run_all([reactivate(engine.context, opened, (ACCOUNT, "api"), OLD, "undo", "asked")], engine.clock)


def of(aws: FakeAws, name: str) -> tuple[str, str]:
    """The user that a key belongs to now, and the key's status."""
    return next(
        (user, found.status) for (_, user), keys in aws.users.items() for found in keys if found.id == name
    )


@renamed
def test_undo_follows_the_key_to_its_users_new_name(pairs: tuple[tuple[str, str], ...]) -> None:
    engine, run = applied()
    engine.aws.rename(*pairs)
    undo(engine, run)
    new = dict(pairs)["api"]
    assert of(engine.aws, OLD) == (new, "Active")
    assert of(engine.aws, "AKIAWEB")[1] == "Active"
    step = engine.record(run).steps[0]
    assert step.state == "undone"
    assert f"its user is called {new} now" in step.why
    assert engine.kinds(run).count("renamed") == 1
    assert run_exit_code(engine.record(run)) == 0
    assert engine.ledger.verify(run).broken == ()


@renamed
def test_a_renamed_users_key_is_not_deactivated(pairs: tuple[tuple[str, str], ...]) -> None:
    engine = VirtualEngine(company())
    run = engine.open(plan_for(engine.aws))
    engine.aws.rename(*pairs)
    engine.run()
    assert engine.aws.writes == []
    step = engine.record(run).steps[0]
    assert (step.state, step.release) == ("held", "make a new plan")
    assert "renamed" in step.why
    assert "is called" not in step.why


@renamed
@pytest.mark.parametrize("steps", range(1, 13))
def test_a_rename_at_any_point_of_an_apply_or_an_undo_loses_no_key(
    pairs: tuple[tuple[str, str], ...], steps: int
) -> None:
    engine = VirtualEngine(company())
    run = engine.open(plan_for(engine.aws))
    opened = load_header(engine.context, run)
    ((user, of_user),) = opened.users().items()
    work = one_call_at_a_time(execute_user(engine.context, opened, user, of_user))
    for _ in range(steps):
        next(work, None)
    engine.aws.rename(*pairs)
    for _ in work:
        pass
    state = engine.record(run).steps[0].state
    assert (state, of(engine.aws, OLD)[1]) in (("held", "Active"), ("unwatched", "Inactive"))
    if state == "held":
        return
    work = one_call_at_a_time(reactivate(engine.context, opened, user, OLD, "undo", "asked"))
    for _ in range(steps):
        next(work, None)
    back = {new: old for old, new in pairs}
    engine.aws.rename(*back.items())
    for _ in work:
        pass
    assert engine.record(run).steps[0].state == "undone"
    assert of(engine.aws, OLD) == ("api", "Active")


@renamed
def test_a_rollback_and_a_look_follow_the_user(pairs: tuple[tuple[str, str], ...]) -> None:
    probes = FakeProbes({"app": ("api",)})
    engine = VirtualEngine(company(), probes)
    run = engine.open(plan_for(engine.aws), RunOptions(watch=3 * DAY))
    engine.run(until=NOW + timedelta(days=1))
    engine.aws.rename(*pairs)
    engine.run(until=NOW + timedelta(days=1, hours=8))
    assert "unseen" not in engine.kinds(run)
    assert "foreign" not in engine.kinds(run)
    probes.result_of = lambda _name: ProbeResult(healthy=False, output="HTTP 500")
    engine.run(until=NOW + timedelta(days=2))
    assert engine.states(run) == {OLD: "rolled_back"}
    assert of(engine.aws, OLD) == (dict(pairs)["api"], "Active")


def test_a_look_sees_that_a_renamed_user_has_no_active_key_although_another_has_its_name() -> None:
    engine = VirtualEngine(company(), FakeProbes({"app": ("api",)}))
    run = engine.open(plan_for(engine.aws), RunOptions(watch=3 * DAY))
    engine.run(until=NOW + timedelta(days=1))
    engine.aws.rename(("api", "api2"), ("web", "api"))
    engine.aws.set("api2", NEW, "Inactive")
    engine.run(until=NOW + timedelta(days=2))
    assert of(engine.aws, OLD) == ("api2", "Active")
    assert engine.states(run) == {OLD: "rolled_back"}


@renamed
def test_a_renamed_users_key_is_deleted_under_its_new_name(pairs: tuple[tuple[str, str], ...]) -> None:
    engine, run = applied()
    engine.clock.sleep(100 * DAY)
    (found,) = deletable(engine.ledger, (run,), engine.clock.now(), timedelta(days=90))
    engine.aws.rename(*pairs)
    result = delete(engine.context, found, engine.aws.gateway(ACCOUNT))
    assert isinstance(result, KeyDeleted)
    assert result.request_id
    left = {known.id for keys in engine.aws.users.values() for known in keys}
    assert left == {NEW, "AKIAWEB"}


def test_a_deletion_that_finds_nobody_under_the_name_is_no_deletion() -> None:
    engine, run = applied()
    engine.clock.sleep(100 * DAY)
    (found,) = deletable(engine.ledger, (run,), engine.clock.now(), timedelta(days=90))

    def rename(call: str) -> None:
        if call == "delete_key":
            engine.aws.before = lambda _call: None
            engine.aws.rename(("api", "api2"))

    engine.aws.before = rename
    with pytest.raises(NotFoundError):
        delete(engine.context, found, engine.aws.gateway(ACCOUNT))
    assert "deleted" not in engine.kinds(run)
    assert isinstance(delete(engine.context, found, engine.aws.gateway(ACCOUNT)), KeyDeleted)


def denied(call: str) -> None:
    if call == "last_used":
        raise DeniedError("access denied: iam:GetAccessKeyLastUsed", code="AccessDenied")


def crowded(engine: VirtualEngine) -> None:
    for number in range(30):
        engine.aws.add(f"crowd{number:02}", key(f"AKIACROWD{number}", 30))


def test_where_aws_does_not_say_where_the_key_is_the_undo_fails_and_may_be_repeated() -> None:
    engine, run = applied()
    crowded(engine)
    engine.aws.rename(("api", "zulu"))
    engine.aws.before = denied
    undo(engine, run)
    step = engine.record(run).steps[0]
    assert step.state == "failed"
    assert "AWS does not show whether it was deleted or belongs to another user now" in step.why
    assert run_exit_code(engine.record(run)) == 1
    engine.aws.before = lambda _call: None
    undo(engine, run)
    assert of(engine.aws, OLD) == ("zulu", "Active")
    assert engine.record(run).steps[0].state == "undone"


def test_in_a_small_account_the_listing_itself_tells() -> None:
    engine, run = applied()
    engine.aws.rename(("api", "api2"))
    engine.aws.before = denied
    undo(engine, run)
    assert of(engine.aws, OLD) == ("api2", "Active")


def _key_deleted(aws: FakeAws) -> None:
    aws.users[ACCOUNT, "api"].pop(0)


def _user_deleted(aws: FakeAws) -> None:
    del aws.users[ACCOUNT, "api"]


def _made_again(aws: FakeAws) -> None:
    aws.users[ACCOUNT, "api"] = [key("AKIAFRESH", 0)]


def _renamed_and_deleted(aws: FakeAws) -> None:
    aws.rename(("api", "api2"))
    aws.users[ACCOUNT, "api2"].pop(0)


@pytest.mark.parametrize("change", [_key_deleted, _user_deleted, _made_again, _renamed_and_deleted])
def test_a_key_is_gone_where_aws_answers_for_others_and_not_for_it(change: Callable[[FakeAws], None]) -> None:
    engine, run = applied()
    crowded(engine)
    change(engine.aws)
    undo(engine, run)
    assert engine.record(run).steps[0].state == "gone"
    assert run_exit_code(engine.record(run)) == 0


def answering(turn: UserLease, gateway: Any) -> None:
    """Let these answers be the account's."""
    turn.context = dataclasses.replace(turn.context, gateway_for=lambda _account: gateway)


def test_an_aws_that_contradicts_itself_is_not_believed() -> None:
    engine, run = applied()
    turn = UserLease(engine.context, load_header(engine.context, run), (ACCOUNT, "api"))

    class Contradicting:
        def __init__(self) -> None:
            self.gateway = engine.aws.gateway(ACCOUNT)

        def __getattr__(self, name: str) -> object:
            return getattr(self.gateway, name)

        def list_keys(self, _user: str) -> tuple[()]:
            return ()

    answering(turn, Contradicting())
    before = engine.clock.now()
    with pytest.raises(MalformedResponseError, match="belongs to user api, and lists that user without it"):
        run_inline(list_current_user(turn, OLD), engine.clock)
    assert engine.clock.now() - before > timedelta(seconds=20)


def test_a_user_who_is_deleted_while_the_account_is_searched_is_passed_over() -> None:
    engine, run = applied()
    engine.aws.rename(("api", "zulu"))
    engine.aws.add("ghost")

    def strike(call: str) -> None:
        if call == "last_used":
            engine.aws.users.pop((ACCOUNT, "ghost"), None)
            raise DeniedError("access denied: iam:GetAccessKeyLastUsed", code="AccessDenied")

    turn = UserLease(engine.context, load_header(engine.context, run), (ACCOUNT, "api"))
    gateway = engine.aws.gateway(ACCOUNT)
    ghosts = [*gateway.list_users()]
    engine.aws.before = strike
    gateway.list_users = lambda: iter(ghosts)  # type: ignore[method-assign]
    answering(turn, gateway)
    found = run_inline(list_current_user(turn, OLD), engine.clock)
    assert {known.id for known in found.active_keys} == {NEW}
    assert turn.name == "zulu"


def test_an_answer_that_names_no_user_is_no_answer() -> None:
    engine, run = applied()
    engine.aws.rename(("api", "zulu"))
    turn = UserLease(engine.context, load_header(engine.context, run), (ACCOUNT, "api"))
    gateway = engine.aws.gateway(ACCOUNT)
    gateway.owner_of = lambda _key: ""  # type: ignore[method-assign, assignment]
    answering(turn, gateway)
    with pytest.raises(MalformedResponseError, match="names no user"):
        run_inline(list_current_user(turn, OLD), engine.clock)


def test_where_users_may_not_be_listed_either_the_search_fails() -> None:
    engine, run = applied()
    engine.aws.rename(("api", "zulu"))
    engine.aws.before = denied
    turn = UserLease(engine.context, load_header(engine.context, run), (ACCOUNT, "api"))
    gateway = engine.aws.gateway(ACCOUNT)

    def refuse() -> Iterator[User]:
        raise DeniedError("access denied: iam:ListUsers", code="AccessDenied")

    gateway.list_users = refuse  # type: ignore[method-assign]
    answering(turn, gateway)
    with pytest.raises(DeniedError, match="does not show whether it was deleted") as caught:
        run_inline(list_current_user(turn, OLD), engine.clock)
    assert caught.value.hint


def test_an_answer_that_the_key_does_not_exist_is_believed() -> None:
    """As of an AWS that answers NoSuchEntity for a key that is missing."""
    engine, run = applied()
    engine.aws.users[ACCOUNT, "api"].pop(0)

    def missing(call: str) -> None:
        if call == "last_used":
            raise NotFoundError("not found", code="NoSuchEntity")

    engine.aws.before = missing
    undo(engine, run)
    assert engine.record(run).steps[0].state == "gone"


def test_a_run_planned_under_the_new_name_is_seen_by_the_one_under_the_old() -> None:
    engine, run = applied()
    engine.aws.rename(("api", "api2"))
    engine.aws.set("api2", OLD, "Active")
    del engine.aws.users[ACCOUNT, "web"]
    later = engine.open(plan_for(engine.aws))
    engine.run()
    assert engine.states(later) == {OLD: "unwatched"}
    undo(engine, run)
    assert of(engine.aws, OLD) == ("api2", "Inactive")
    assert engine.record(run).steps[0].state == "changed"
