"""Fanning out over accounts: what is read, what is not, and that one account's trouble stays its own."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest

from sparekey.audit import (
    AccountDone,
    AccountStarted,
    AuditEvent,
    InterruptedAuditError,
    NeedLastUse,
    ReadMode,
    UserRead,
    audit,
    read_user,
)
from sparekey.aws.credential_report import CredentialReport, ReportRow, ReportSlot
from sparekey.aws.errors import AwsError, DeniedError, ExpiredCredentialsError, NotFoundError
from sparekey.aws.event_history import KeyChanges
from sparekey.aws.gateway import IamSummary
from sparekey.model import (
    NEVER_USED,
    NOT_READ,
    AccessKey,
    Account,
    Caller,
    LastUsed,
    Quarantined,
    Snapshot,
    Unreadable,
    User,
)
from sparekey.policy import Policy
from sparekey.rules import assess
from support.clocks import VirtualClock

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CALLER = Caller("111111111111", "arn:aws:iam::111111111111:user/me")
DENIED = DeniedError("access denied", code="AccessDenied")


def key(key_id: str, status: str = "Active") -> AccessKey:
    return AccessKey(key_id, status, NOW - timedelta(days=10))


class FakeAccount:
    """An account in memory; a value that is an error is raised."""

    partition = "aws"
    max_in_flight = 4

    def __init__(self, account_id: str, users: dict[str, list[AccessKey] | AwsError] | AwsError) -> None:
        self.account_id = account_id
        self.users = users
        self.used: list[str] = []
        self.uses: dict[str, LastUsed | AwsError] = {}
        self.root: int | AwsError = 0
        self.report: CredentialReport | AwsError = CredentialReport(NOW - timedelta(hours=2), ())
        self.changed: KeyChanges | AwsError = KeyChanges(frozenset())
        self.leaked: list[Quarantined] | AwsError = []
        self.listed: list[str] = []
        self.released = 0

    def close(self) -> None:
        self.released += 1

    def alias(self) -> str:
        return f"acme-{self.account_id}"

    def summary(self) -> IamSummary:
        if isinstance(self.root, AwsError):
            raise self.root
        return IamSummary(
            user_count=0 if isinstance(self.users, AwsError) else len(self.users), root_keys=self.root
        )

    def credential_report(self) -> CredentialReport:
        if isinstance(self.report, AwsError):
            raise self.report
        return self.report

    def quarantined_users(self) -> list[Quarantined]:
        if isinstance(self.leaked, AwsError):
            raise self.leaked
        return self.leaked

    def key_changes(self, since: datetime) -> KeyChanges:
        self.asked_since = since
        if isinstance(self.changed, AwsError):
            raise self.changed
        return self.changed

    def list_users(self) -> Iterator[User]:
        if isinstance(self.users, AwsError):
            raise self.users
        for name in self.users:
            yield User(name, f"arn:aws:iam::{self.account_id}:user/{name}", ())

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        assert not isinstance(self.users, AwsError)
        self.listed.append(user)
        keys = self.users[user]
        if isinstance(keys, AwsError):
            raise keys
        return tuple(keys)

    def last_used(self, key_id: str) -> LastUsed:
        self.used.append(key_id)
        use = self.uses.get(key_id, NEVER_USED)
        if isinstance(use, AwsError):
            raise use
        return use


def read(*accounts: FakeAccount, on_event: Callable[[AuditEvent], None] = lambda _: None) -> Snapshot:
    return audit(accounts, VirtualClock(NOW), caller=CALLER, workers=4, on_event=on_event)


def users_of(snapshot: Snapshot) -> dict[str, User]:
    return {user.name: user for _, user in snapshot.users()}


def test_users_of_the_same_name_in_two_accounts_are_two_users_and_all_is_sorted() -> None:
    second = FakeAccount("222222222222", {"zed": [key("A1")], "app": [key("A2")]})
    snapshot = read(second, FakeAccount("111111111111", {"app": [key("A3"), key("A4")]}))
    assert [(account.id, user.name, len(user.active_keys)) for account, user in snapshot.users()] == [
        ("111111111111", "app", 2),
        ("222222222222", "app", 1),
        ("222222222222", "zed", 1),
    ]
    assert snapshot.accounts[0].alias == "acme-111111111111"
    assert snapshot.accounts[0].root_keys == 0
    assert second.released == 1


def test_last_use_is_asked_only_for_active_keys_that_have_a_spare() -> None:
    account = FakeAccount(
        "111111111111",
        {
            "one": [key("A1"), key("A2", "Inactive")],
            "three": [key("B1"), key("B2"), key("B3"), key("B4", "Expired")],
            "none": [],
        },
    )
    users = users_of(read(account))
    assert sorted(account.used) == ["B1", "B2", "B3"]
    assert isinstance(users["one"].keys, tuple)
    assert users["one"].keys[0].last_used == NOT_READ


def test_an_error_is_not_never_used() -> None:
    account = FakeAccount("111111111111", {"app": [key("A1"), key("A2")]})
    account.uses["A1"] = DENIED
    keys = users_of(read(account))["app"].active_keys
    assert [one.last_used for one in keys] == [LastUsed("unreadable", why="access denied"), NEVER_USED]


def test_one_users_denied_keys_are_that_users_alone() -> None:
    account = FakeAccount("111111111111", {"app": DENIED, "web": [key("A1")]})
    account.root = DENIED
    snapshot = read(account)
    users = users_of(snapshot)
    assert users["app"].keys == Unreadable("iam:ListAccessKeys", "access denied", "AccessDenied")
    assert len(users["web"].active_keys) == 1
    assert snapshot.accounts[0].root_keys == Unreadable(
        "iam:GetAccountSummary", "access denied", "AccessDenied"
    )


def test_an_account_that_cannot_be_listed_stops_no_other() -> None:
    snapshot = read(FakeAccount("111111111111", DENIED), FakeAccount("222222222222", {"app": []}))
    assert snapshot.accounts[0].users == Unreadable("iam:ListUsers", "access denied", "AccessDenied")
    assert list(users_of(snapshot)) == ["app"]


def test_a_user_deleted_meanwhile_is_gone_and_noted() -> None:
    class Leaving(FakeAccount):
        def list_users(self) -> Iterator[User]:
            yield from super().list_users()
            assert isinstance(self.users, dict)
            self.users = {"web": self.users["web"]}

        def list_keys(self, user: str) -> tuple[AccessKey, ...]:
            assert isinstance(self.users, dict)
            if user not in self.users:
                raise NotFoundError("no")
            return super().list_keys(user)

    account = Leaving("111111111111", {"app": [key("A1")], "web": []})
    snapshot = read(account)
    assert list(users_of(snapshot)) == ["web"]
    assert snapshot.accounts[0].notes == ("user app was deleted while the account was read",)
    assert account.listed == ["web"], "only those whose name changed are read again"


def test_a_user_that_is_listed_but_never_found_is_unreadable_and_not_left_out() -> None:
    account = FakeAccount("111111111111", {"app": NotFoundError("no"), "web": []})
    found = users_of(read(account))["app"].keys
    assert isinstance(found, Unreadable)
    assert (found.what, found.code) == ("iam:ListAccessKeys", "NoSuchEntity")


class Renaming(FakeAccount):
    """An account whose users take other names after a number of calls."""

    def __init__(self, users: dict[str, list[AccessKey]], *renames: tuple[int, dict[str, str]]) -> None:
        super().__init__("111111111111", dict(users))
        self.names = {name: name for name in users}
        self.renames = dict(renames)
        self.calls = 0
        self.lock = threading.Lock()

    def _count(self) -> None:
        with self.lock:
            self.calls += 1
            new = self.renames.get(self.calls, {})
            self.names = {new.get(name, name): first for name, first in self.names.items()}

    def list_users(self) -> Iterator[User]:
        self._count()
        for name, first in sorted(self.names.items()):
            yield User(name, f"arn:aws:iam::111111111111:user/{name}", (), id=f"AIDA{first}")

    def list_keys(self, user: str) -> tuple[AccessKey, ...]:
        self._count()
        if user not in self.names:
            raise NotFoundError("no")
        return super().list_keys(self.names[user])


def test_a_listing_that_fails_when_users_are_looked_for_again_leaves_the_account_unread() -> None:
    class Failing(Renaming):
        def list_users(self) -> Iterator[User]:
            if self.listed:
                raise DENIED
            yield from super().list_users()

    account = Failing({"a": [key("A1")], "b": [key("B1")]}, (2, {"b": "c"}))
    assert audit([account], VirtualClock(NOW), caller=CALLER, workers=1).accounts[0].users == Unreadable(
        "iam:ListUsers", "access denied", "AccessDenied"
    )


def test_a_report_that_is_denied_says_so_of_the_root_users_keys_too() -> None:
    account = FakeAccount("111111111111", {"app": []})
    account.root, account.report = 1, DENIED
    made = audit([account], VirtualClock(NOW), caller=CALLER, read="report", root=True, workers=1)
    assert made.accounts[0].root == Unreadable("iam:GetCredentialReport", "access denied", "AccessDenied")
    made = audit([account], VirtualClock(NOW), caller=CALLER, read="auto", root=True, workers=1)
    assert made.accounts[0].root == Unreadable("iam:GetCredentialReport", "access denied", "AccessDenied")
    assert [user.name for _, user in made.users()] == ["app"]


RENAMES = [{"a": "c"}, {"a": "c", "b": "a"}, {"a": "b", "b": "a"}, {"b": "d"}]


@pytest.mark.parametrize("renamed", RENAMES)
@pytest.mark.parametrize("at", range(1, 6))
def test_users_renamed_while_they_are_read_are_all_read_and_no_key_twice(
    at: int, renamed: dict[str, str]
) -> None:
    users = {"a": [key("A1"), key("A2")], "b": [key("B1")], "z": [key("Z1"), key("Z2")]}
    account = Renaming(users, (at, renamed))
    snapshot = audit([account], VirtualClock(NOW), caller=CALLER, workers=1)
    keys = [user.keys for user in users_of(snapshot).values()]
    received = sorted([one.id for one in found] for found in keys if isinstance(found, tuple))
    assert received == [["A1", "A2"], ["B1"], ["Z1", "Z2"]]


def test_a_user_too_new_to_be_seen_everywhere_is_looked_for_again() -> None:
    account = FakeAccount("111111111111", {"app": [key("A1")]})
    found, account.users = account.users, {"app": NotFoundError("not yet")}

    class PatientClock(VirtualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            account.users = found

    snapshot = audit([account], PatientClock(NOW), caller=CALLER, workers=1)
    assert len(users_of(snapshot)["app"].active_keys) == 1


def test_events_tell_the_progress() -> None:
    events: list[AuditEvent] = []
    read(
        FakeAccount("111111111111", {"a": [], "b": []}),
        FakeAccount("222222222222", {}),
        on_event=events.append,
    )
    assert sum(isinstance(event, AccountStarted) for event in events) == 2
    assert sorted(event.name for event in events if isinstance(event, UserRead)) == ["a", "b"]
    done = [(event.done, event.total) for event in events if isinstance(event, AccountDone)]
    assert done == [(1, 2), (2, 2)]


def test_no_more_calls_run_at_once_than_the_account_can_bear() -> None:
    lock, running, most = threading.Lock(), 0, 0

    class Narrow(FakeAccount):
        max_in_flight = 2

        def list_keys(self, user: str) -> tuple[AccessKey, ...]:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.002)
            with lock:
                running -= 1
            return super().list_keys(user)

    account = Narrow("111111111111", {f"u{number}": [] for number in range(30)})
    assert len(users_of(audit([account], VirtualClock(NOW), caller=CALLER, workers=8))) == 30
    assert most == 2


def test_ctrl_c_ends_with_what_was_covered_and_never_calls_it_whole() -> None:
    stuck = threading.Event()

    class Stuck(FakeAccount):
        def list_users(self) -> Iterator[User]:
            stuck.wait()
            yield from super().list_users()

    def interrupt(event: AuditEvent) -> None:
        if isinstance(event, AccountDone):
            raise KeyboardInterrupt

    accounts = [FakeAccount("111111111111", {"app": []}), Stuck("222222222222", {"web": []})]
    with pytest.raises(InterruptedAuditError, match="1 of 2 accounts with 1 users") as caught:
        audit(accounts, VirtualClock(NOW), caller=CALLER, workers=4, on_event=interrupt)
    stuck.set()
    assert caught.value.exit_code == 130
    assert [account.id for account in caught.value.partial.accounts] == ["111111111111"]


def test_a_real_ctrl_c_is_seen_while_every_call_hangs() -> None:
    stuck = threading.Event()

    class Stuck(FakeAccount):
        def list_users(self) -> Iterator[User]:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            stuck.wait()
            yield from super().list_users()

    with pytest.raises(InterruptedAuditError, match="0 of 1 accounts"):
        read(Stuck("111111111111", {"app": []}))
    stuck.set()


def test_a_bug_in_a_reader_is_not_hidden_in_a_thread() -> None:
    class Broken(FakeAccount):
        def alias(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read(Broken("111111111111", {}))


def test_one_user_is_read_again_before_a_write() -> None:
    account = FakeAccount("111111111111", {"app": [key("A1")], "web": NotFoundError("gone")})
    user = read_user(account, "app", "all", arn="arn:aws:iam::111111111111:user/app")
    assert user.active_keys[0].last_used == NEVER_USED
    with pytest.raises(NotFoundError):
        read_user(account, "web")


def test_credentials_that_expire_midway_end_the_account_and_not_each_user() -> None:
    expired = ExpiredCredentialsError("the credentials have expired", code="ExpiredToken")
    account = FakeAccount("111111111111", {f"u{number}": expired for number in range(500)})
    snapshot = audit([account], VirtualClock(NOW), caller=CALLER, workers=1)
    assert snapshot.accounts[0].users == Unreadable("account", "the credentials have expired", "ExpiredToken")
    assert len(account.listed) == 1


@pytest.mark.parametrize(
    "lost_at", ["alias", "summary", "list_users", "credential_report", "key_changes", "quarantined_users"]
)
def test_credentials_lost_at_any_point_make_the_account_unreadable(lost_at: str) -> None:
    expired = ExpiredCredentialsError("expired", code="ExpiredToken", action="iam:X")
    account = reported({"app": [key("A1")]}, row("app", slot()))

    def lose(*_: object) -> NoReturn:
        raise expired

    setattr(account, lost_at, lose)
    read = by_report(account, "list" if lost_at == "list_users" else "report")
    assert read.users == Unreadable("iam:X", "expired", "ExpiredToken")


def test_an_alias_that_cannot_be_read_is_a_note() -> None:
    class Nameless(FakeAccount):
        def alias(self) -> str:
            raise DENIED

    snapshot = read(Nameless("111111111111", {"app": []}))
    assert snapshot.accounts[0].notes == ("the alias could not be read: access denied",)
    assert list(users_of(snapshot)) == ["app"]


def quarantine_of(account: FakeAccount, mode: ReadMode = "list") -> tuple[Account, dict[str, object]]:
    snapshot = audit([account], VirtualClock(NOW), caller=CALLER, read=mode, quarantine=True, workers=2)
    return snapshot.accounts[0], {name: user.quarantine for name, user in users_of(snapshot).items()}


def test_whom_aws_has_quarantined_is_a_fact_of_the_user_even_under_a_new_name() -> None:
    account = Renaming({"app": [key("A1")], "web": [key("B1")], "new": []}, (0, {}))
    account.names = {"app": "app", "web": "web", "fresh": "new"}
    account.leaked = [
        Quarantined("app", "AIDAapp", "V2"),
        Quarantined("app", "AIDAapp", "V3"),
        Quarantined("new", "AIDAnew", "V2"),
        Quarantined("web", "AIDAgone", "V2"),  # another user, who had the name
    ]
    read, found = quarantine_of(account)
    assert read.quarantine is True
    assert found == {"app": ("V2", "V3"), "fresh": ("V2",), "web": ()}


def test_in_report_mode_the_quarantined_are_known_by_name() -> None:
    account = reported({}, row("app", slot()))
    account.leaked = [Quarantined("app", "AIDA1", "V3")]
    assert quarantine_of(account, "report")[1] == {"app": ("V3",)}


def test_a_denied_quarantine_is_unreadable_and_no_question_is_none() -> None:
    account = FakeAccount("111111111111", {"app": []})
    account.leaked = DENIED
    assert quarantine_of(account)[0].quarantine == Unreadable(
        "iam:ListEntitiesForPolicy", "access denied", "AccessDenied"
    )
    assert quarantine_of(account)[1] == {
        "app": Unreadable("iam:ListEntitiesForPolicy", "access denied", "AccessDenied")
    }
    assert read(account).accounts[0].quarantine is False


@pytest.mark.parametrize("mode", ["list", "report"])
def test_the_root_users_keys_are_read_from_the_report_where_there_are_any(mode: ReadMode) -> None:
    account = reported({"app": []}, row("app"))
    account.report = CredentialReport(GENERATED, (row("app"),), row("<root_account>", slot(age=400)))

    def root() -> tuple[AccessKey, ...] | Unreadable:
        snapshot = audit([account], VirtualClock(NOW), caller=CALLER, read=mode, root=True, workers=2)
        return snapshot.accounts[0].root

    assert root() == ()
    account.root = 1
    assert root() == (AccessKey(None, "Active", NOW - timedelta(days=400), USED),)
    if mode == "list":
        account.report = DENIED
        assert root() == Unreadable("iam:GetCredentialReport", "access denied", "AccessDenied")


# --- by the credential report ---

GENERATED = NOW - timedelta(hours=2)
USED = LastUsed("used", NOW - timedelta(days=3), "s3", "us-east-1")


def slot(*, active: bool = True, age: int = 10, used: LastUsed = USED) -> ReportSlot:
    return ReportSlot(active, NOW - timedelta(days=age), used)


def row(name: str, *slots: ReportSlot, whole: bool = True) -> ReportRow:
    return ReportRow(name, f"arn:aws:iam::111111111111:user/{name}", NOW, slots, whole)


def reported(users: dict[str, list[AccessKey] | AwsError], *rows: ReportRow) -> FakeAccount:
    account = FakeAccount("111111111111", users)
    account.report = CredentialReport(GENERATED, rows)
    return account


def by_report(
    account: FakeAccount, read: ReadMode = "report", need: NeedLastUse = "spare", *, fresh: bool = False
) -> Account:
    made = audit(
        [account],
        VirtualClock(NOW),
        caller=CALLER,
        read=read,
        need_last_use=need,
        fresh=fresh,
        quarantine=True,
        workers=2,
    )
    return made.accounts[0]


def test_the_report_tells_of_everybody_and_only_those_who_matter_are_listed() -> None:
    account = reported(
        {"spare": [key("A1"), key("A2")], "many": [key("B1")], "changed": [key("C1")], "quiet": []},
        row("spare", slot(), slot(age=11)),
        row("many", slot(), whole=False),
        row("changed", slot()),
        row("quiet", slot(), slot(active=False)),
        row("keyless"),
    )
    account.changed = KeyChanges(frozenset({"changed"}))
    read = by_report(account)
    assert sorted(account.listed) == ["changed", "many", "spare"]
    assert (read.read_by, read.history) == ("report", None)
    assert account.asked_since == GENERATED - timedelta(minutes=30)
    assert read.as_of == NOW - timedelta(minutes=15)
    assert not isinstance(read.users, Unreadable)
    received = {user.name: user.keys for user in read.users}
    assert received["quiet"] == (
        AccessKey(None, "Active", None, USED),
        AccessKey(None, "Inactive", None, USED),
    )
    assert received["keyless"] == ()


def test_a_report_older_than_the_change_is_not_believed() -> None:
    account = reported({"app": [key("A1"), key("A2")]}, row("app", slot()))
    account.changed = KeyChanges(frozenset({"app"}))
    read = by_report(account)
    assert not isinstance(read.users, Unreadable)
    assert len(read.users[0].active_keys) == 2


def test_where_the_history_is_denied_the_answer_is_as_of_the_report_and_says_so() -> None:
    account = reported({}, row("app", slot()))
    account.changed = DENIED
    read = by_report(account)
    assert read.as_of == GENERATED
    assert read.history == Unreadable("cloudtrail:LookupEvents", "access denied", "AccessDenied")
    assert read.notes == ("as of the credential report; later changes are not known: access denied",)
    assert assess(Snapshot(NOW, CALLER, (read,)), Policy(), NOW).coverage.accounts_as_of == 1


@pytest.mark.parametrize("changed", [KeyChanges(frozenset({"new"})), KeyChanges(frozenset(), incomplete=1)])
def test_a_change_of_nobody_known_has_the_account_listed_afresh(changed: KeyChanges) -> None:
    account = reported({"app": [key("A1")], "new": [key("B1"), key("B2")]}, row("app", slot()))
    account.changed = changed
    read = by_report(account)
    assert read.read_by == "list"
    assert sorted(account.listed) == ["app", "new"]
    assert "listed user by user" in read.notes[0]


def test_a_new_name_or_path_after_the_report_has_the_account_listed_afresh() -> None:
    account = reported({"new": [key("A1"), key("A2")]}, row("old", slot(), slot()))
    account.changed = KeyChanges(frozenset(), renamed=1)
    read = by_report(account)
    assert (read.read_by, read.as_of, read.history) == ("list", NOW, None)
    assert not isinstance(read.users, Unreadable)
    assert [user.name for user in read.users] == ["new"]


@pytest.mark.parametrize("history", [KeyChanges(frozenset()), DENIED])
def test_a_row_whose_user_is_not_found_has_the_account_listed_afresh(history: KeyChanges | AwsError) -> None:
    """The event of a rename comes late, or the history is denied."""
    account = Renaming({"new": [key("A1"), key("A2")], "web": [key("W1")]})
    account.report = CredentialReport(GENERATED, (row("old", slot(), slot()), row("web", slot(age=10))))
    account.changed = history
    read = by_report(account)
    assert (read.read_by, read.history) == ("list", None)
    assert "user of the credential report is not found" in " ".join(read.notes)
    assert not isinstance(read.users, Unreadable)
    assert {user.name: len(user.active_keys) for user in read.users} == {"new": 2, "web": 1}


def test_a_row_whose_name_another_user_has_taken_has_the_account_listed_afresh() -> None:
    """The user with two keys went from a to c, and b took the name a: all of a's row is found, and wrong."""
    account = Renaming(
        {"c": [AccessKey(f"A{n}", "Active", NOW - timedelta(days=n)) for n in (50, 60)], "a": [key("B1")]}
    )
    account.report = CredentialReport(
        GENERATED, (row("a", slot(age=50), slot(age=60)), row("b", slot(age=10)))
    )
    read = by_report(account)
    assert read.read_by == "list"
    assert not isinstance(read.users, Unreadable)
    assert {user.name: len(user.active_keys) for user in read.users} == {"c": 2, "a": 1}


def test_a_user_deleted_and_made_again_after_the_report_is_read_as_it_is_now() -> None:
    fresh = AccessKey("N1", "Active", NOW - timedelta(hours=1))
    account = reported({"app": [fresh]}, row("app", slot(), slot(age=11)))
    read = by_report(account)
    assert read.read_by == "report"
    assert not isinstance(read.users, Unreadable)
    assert [one.id for one in read.users[0].active_keys] == ["N1"]


def test_the_reports_last_use_saves_a_call_only_where_its_slot_is_beyond_doubt() -> None:
    account = reported(
        {"app": [key("A1"), AccessKey("A2", "Active", NOW - timedelta(days=99))]},
        row("app", slot(), slot(age=50)),
    )
    read = by_report(account)
    assert not isinstance(read.users, Unreadable)
    assert [one.last_used for one in read.users[0].active_keys] == [USED, NEVER_USED]
    assert account.used == ["A2"]
    by_report(account, fresh=True)
    assert sorted(account.used[1:]) == ["A1", "A2"]


def test_all_last_uses_are_in_the_report_but_a_key_never_used_needs_its_age() -> None:
    account = reported(
        {"idle": [key("A1")], "app": []}, row("app", slot()), row("idle", slot(used=NEVER_USED))
    )
    read = by_report(account, need="all")
    assert account.listed == ["idle"]
    assert not isinstance(read.users, Unreadable)
    assert read.users[1].active_keys[0].created == NOW - timedelta(days=10)


def test_small_accounts_are_listed_and_large_ones_reported() -> None:
    small = reported({"app": []}, row("app", slot()))
    assert by_report(small, "auto").read_by == "list"
    large = reported({f"u{number}": [] for number in range(21)}, *(row(f"u{number}") for number in range(21)))
    assert by_report(large, "auto").read_by == "report"


def test_an_account_without_a_report_is_listed_unless_the_report_was_asked_for() -> None:
    account = reported({f"u{number}": [] for number in range(21)})
    account.report = DENIED
    read = by_report(account, "auto")
    assert (read.read_by, len(read.users) if not isinstance(read.users, Unreadable) else 0) == ("list", 21)
    assert read.notes == ("listed user by user, since there is no report: access denied",)
    assert by_report(account).users == Unreadable("iam:GetCredentialReport", "access denied", "AccessDenied")
