"""Keys are deleted for good only where our own run retired them long ago and nothing speaks against it."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from sparekey.aws.errors import DeniedError, UnreachableError
from sparekey.errors import RefusedError
from sparekey.ledger.events import DeletionSkipped, KeyDeleted, RootDeletionFailed, read_event
from sparekey.ledger.records import FencedError
from sparekey.model import NEVER_USED, NOT_READ, AccessKey, LastUsed
from sparekey.runs.deletion import Deletable, deletable, delete, delete_root
from support.fake_aws import ACCOUNT, FakeAws, plan_for, small_company, used
from support.virtual_engine import VirtualEngine

LONG = timedelta(days=90)


def retired() -> tuple[VirtualEngine, str]:
    """A run that retired its keys a hundred days ago."""
    engine = VirtualEngine(small_company())
    run = engine.open(plan_for(engine.aws))
    engine.run()
    engine.clock.sleep(100 * 86400)
    return engine, run


def of(engine: VirtualEngine, run: str, name: str = "AKIAAPIOLD") -> Deletable:
    found = deletable(engine.ledger, (run,), engine.clock.now(), LONG)
    return next(entry for entry in found if entry.key == name)


def test_only_what_our_run_retired_long_enough_ago() -> None:
    engine, run = retired()
    found = deletable(engine.ledger, (run,), engine.clock.now(), LONG)
    assert [entry.key for entry in found] == ["AKIAAPIOLD", "AKIABATCH1", "AKIABATCH2", "AKIAIDLE1"]
    assert deletable(engine.ledger, (run,), engine.clock.now(), timedelta(days=101)) == ()
    result = delete(engine.context, found[0], engine.aws.gateway(ACCOUNT))
    assert isinstance(result, KeyDeleted)
    assert result.request_id == "request-5"
    assert list(engine.aws.statuses("api")) == ["AKIAAPINEW"]
    assert engine.kinds(run)[-2:] == ["deleting", "deleted"]
    assert engine.states(run)["AKIAAPIOLD"] == "deleted"
    assert engine.record(run).state == "unwatched"
    left = deletable(engine.ledger, (run,), engine.clock.now(), LONG)
    assert [entry.key for entry in left] == ["AKIABATCH1", "AKIABATCH2", "AKIAIDLE1"]


def test_a_key_that_a_later_run_retired_again_is_as_old_as_that() -> None:
    engine, run = retired()
    first = of(engine, run)
    engine.aws.set("api", "AKIAAPIOLD", "Active")
    engine.aws.users = {(ACCOUNT, "api"): engine.aws.users[ACCOUNT, "api"]}
    new = engine.aws.users[ACCOUNT, "api"][1]
    now = engine.clock.now()
    new.created, new.last_used = now - timedelta(days=30), used(1, now=now)
    later = engine.open(plan_for(engine.aws))
    engine.run()
    assert engine.states(later) == {"AKIAAPIOLD": "unwatched"}
    runs = (run, later)
    young = deletable(engine.ledger, runs, engine.clock.now(), LONG)
    assert "AKIAAPIOLD" not in {entry.key for entry in young}
    result = delete(engine.context, first, engine.aws.gateway(ACCOUNT))
    assert result == DeletionSkipped(ACCOUNT, "api", "AKIAAPIOLD", f"run {later} has set it since")
    engine.clock.sleep(100 * 86400)
    found = [e for e in deletable(engine.ledger, runs, engine.clock.now(), LONG) if e.user == "api"]
    assert [(entry.run, entry.key) for entry in found] == [(later, "AKIAAPIOLD")]


def _last(aws: FakeAws, index: int, found: LastUsed) -> None:
    aws.users[ACCOUNT, "api"][index].last_used = found


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda aws: aws.set("api", "AKIAAPIOLD", "Active"), "it is Active"),
        (lambda aws: aws.set("api", "AKIAAPINEW", "Inactive"), "its user has no active key"),
        (lambda aws: aws.users[ACCOUNT, "api"].pop(0), "no longer exists"),
        (lambda aws: aws.users.pop((ACCOUNT, "api")), "no longer exists"),
        (lambda aws: _last(aws, 0, used(-3)), "after it was deactivated"),
        (lambda aws: _last(aws, 0, LastUsed("unreadable", why="denied")), "could not be read"),
    ],
)
def test_what_speaks_against_it(change: Callable[[FakeAws], None], why: str) -> None:
    engine, run = retired()
    what = of(engine, run)
    change(engine.aws)
    result = delete(engine.context, what, engine.aws.gateway(ACCOUNT))
    assert isinstance(result, DeletionSkipped)
    assert why in result.why
    assert "deleting" not in engine.kinds(run)
    assert why in engine.record(run).steps[0].why


def test_a_lost_answer_is_found_out() -> None:
    for when in ("before", "after"):
        engine, run = retired()
        what = of(engine, run)

        def cut(call: str) -> None:
            if call == "delete_key":
                raise UnreachableError("cut off")

        setattr(engine.aws, when, cut)
        with pytest.raises(UnreachableError):
            delete(engine.context, what, engine.aws.gateway(ACCOUNT))
        assert engine.states(run)["AKIAAPIOLD"] == "deleting"
        setattr(engine.aws, when, lambda _call: None)
        assert isinstance(delete(engine.context, of(engine, run), engine.aws.gateway(ACCOUNT)), KeyDeleted)
        assert engine.states(run)["AKIAAPIOLD"] == "deleted"


def test_a_key_that_goes_in_the_same_moment_is_deleted_all_the_same() -> None:
    engine, run = retired()

    def meanwhile(call: str) -> None:
        if call == "delete_key":
            engine.aws.users[ACCOUNT, "api"].pop(0)

    engine.aws.before = meanwhile
    assert delete(engine.context, of(engine, run), engine.aws.gateway(ACCOUNT)) == KeyDeleted(
        ACCOUNT, "api", "AKIAAPIOLD", ""
    )


def test_denied_or_taken_over_nothing_is_deleted() -> None:
    engine, run = retired()
    what = of(engine, run)

    def denied(call: str) -> None:
        if call == "last_used":
            raise DeniedError("access denied: iam:GetAccessKeyLastUsed", code="AccessDenied")

    engine.aws.before = denied
    with pytest.raises(DeniedError):
        delete(engine.context, what, engine.aws.gateway(ACCOUNT))

    def meanwhile(call: str) -> None:
        if call == "last_used":
            claim = engine.ledger.claim(ACCOUNT, "api")
            engine.ledger.append(
                run, "stopped", {"who": "x", "why": "y"}, at=engine.clock.now(), claim=claim, bump_epoch=True
            )

    engine.aws.before = meanwhile
    with pytest.raises(FencedError):
        delete(engine.context, what, engine.aws.gateway(ACCOUNT))
    assert "AKIAAPIOLD" in engine.aws.statuses("api")


class RootDeleter:
    def __init__(self) -> None:
        self.deleted: list[tuple[str, str]] = []

    def delete_key(self, user: str, key_id: str) -> str:
        self.deleted.append((user, key_id))
        return "request-1"


def test_a_root_key_goes_only_where_its_last_use_is_known_and_old() -> None:
    engine, _ = retired()
    now = engine.clock.now()
    old, young = now - timedelta(days=400), now - timedelta(days=3)
    deleter = RootDeleter()

    def ask(created: object, last: LastUsed) -> str:
        key = AccessKey("AKIAROOT", "Active", created, last)  # type: ignore[arg-type]
        return delete_root(engine.context, "999988887777", key, deleter, LONG)

    for created, last in (
        (old, LastUsed("used", young)),
        (young, NEVER_USED),
        (old, NOT_READ),
        (None, NEVER_USED),
    ):
        with pytest.raises(RefusedError):
            ask(created, last)
    assert deleter.deleted == []
    assert ask(old, NEVER_USED) == "request-1"
    assert ask(old, LastUsed("used", old)) == "request-1"
    assert deleter.deleted == [("", "AKIAROOT"), ("", "AKIAROOT")]
    chain = "root-999988887777"
    assert [entry.kind for entry in engine.ledger.entries(chain)] == ["root-deleting", "root-deleted"] * 2
    assert engine.ledger.verify(chain).broken == ()


def test_a_root_key_that_could_not_be_deleted_is_on_record() -> None:
    engine, _ = retired()

    class Refused:
        def delete_key(self, user: str, key_id: str) -> str:
            raise DeniedError(f"access denied: {key_id}{user}", code="AccessDenied", request_id="no-1")

    key = AccessKey("AKIAROOT", "Active", engine.clock.now() - timedelta(days=400), NEVER_USED)
    with pytest.raises(DeniedError):
        delete_root(engine.context, "999988887777", key, Refused(), LONG)
    entries = engine.ledger.entries("root-999988887777")
    assert [read_event(entry) for entry in entries][1:] == [
        RootDeletionFailed("999988887777", "AKIAROOT", "AccessDenied", "access denied: AKIAROOT", "no-1")
    ]
