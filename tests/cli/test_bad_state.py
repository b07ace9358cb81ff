"""The way back when the state is bad: what undo does without it, and what else is told."""

import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from sparekey.ledger import database
from support.cli_harness import ACCOUNT, CliHarness

_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
_OFF = {"batch/1", "batch/2", "web/1"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the state after an apply is kept: making it takes longer than a test."""
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def run(sk: CliHarness, template: Path) -> str:
    """The id of a run that has deactivated three keys."""
    if not template.exists():
        assert sk("apply", sk.make_plan(), "--yes", "--no-watch").code == 0
        shutil.copytree(sk.home, template)
    else:
        shutil.copytree(template, sk.home)
        with sk.aws.state.lock:  # a desk's keys have the same ids in each test
            for name in _OFF:
                user, number = name.split("/")
                sk.aws.key(user, account=ACCOUNT, number=int(number)).status = "Inactive"
    assert sk.inactive == _OFF
    return next((sk.home / "reverse").glob("*.sh")).stem


def query(sk: CliHarness, *statements: str) -> None:
    with closing(sqlite3.connect(sk.home / "sparekey.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def damage(sk: CliHarness) -> None:
    path = sk.home / "sparekey.db"
    content = bytearray(path.read_bytes())
    for at in range(4096, len(content), 4096):
        content[at : at + 200] = b"\xa5" * 200
    path.write_bytes(content)
    for more in ("-wal", "-shm"):
        (sk.home / f"sparekey.db{more}").unlink(missing_ok=True)


def no_database(sk: CliHarness) -> None:
    (sk.home / "sparekey.db").write_bytes(b"this is no database at all" * 1000)


def away(sk: CliHarness) -> None:
    sk.patch.setenv("SPAREKEY_DATABASE_URL", "postgresql://keeper:word@127.0.0.1:1/runs")


@pytest.mark.parametrize(
    ("spoil", "received"),
    [
        (damage, "is damaged: database disk image is malformed"),
        (no_database, "is damaged: file is not a database"),
        (away, "the state in PostgreSQL 127.0.0.1:1/runs cannot be used"),
    ],
)
def test_undo_by_the_copy(
    sk: CliHarness, run: str, spoil: Callable[[CliHarness], None], received: str
) -> None:
    spoil(sk)
    result = sk("undo", run)
    assert (result.code, sk.inactive) == (0, set()), result.err
    assert received in result.out
    assert f"were read from the copy {sk.home}/reverse/{run}.jsonl" in result.out
    assert f"this undo is not on record: run `sparekey undo {run}` again" in result.out
    assert "word" not in result.out + result.err


def test_undo_of_one_key_by_the_copy(sk: CliHarness, run: str) -> None:
    damage(sk)
    assert sk("undo", run[:6], "--key", sk.key("web", 1)).code == 0
    assert sk.inactive == _OFF - {"web/1"}


@pytest.mark.slow
def test_undo_by_the_copy_leaves_what_the_run_did_not_do(sk: CliHarness) -> None:
    plan = sk.make_plan()
    with sk.aws.state.lock:
        sk.aws.key("batch", account=ACCOUNT, number=1).status = "Inactive"  # before the run came to it
    assert sk("apply", plan, "--yes", "--no-watch").code in (0, 1, 3)
    run = next((sk.home / "reverse").glob("*.sh")).stem
    assert sk.key("batch", 1) in (sk.home / "reverse" / f"{run}.sh").read_text()
    damage(sk)
    sk("undo", run)
    assert sk.inactive == {"batch/1"}


def test_damage_is_called_damage_and_the_way_by_hand_is_named(sk: CliHarness, run: str) -> None:
    damage(sk)
    (sk.home / "reverse" / f"{run}.jsonl").unlink()
    for command in (("runs",), ("show", run), ("ledger", "verify"), ("ledger", "export"), ("undo", run)):
        result = sk(*command)
        assert result.code == 1, command
        assert f"the state file {sk.home}/sparekey.db is damaged" in result.error
    assert "nothing was reactivated" in result.error
    assert f"{sk.home}/reverse/{run}.sh has the AWS CLI command for each key" in result.err
    assert sk.inactive == _OFF


def test_a_copy_that_is_not_whole_is_not_used(sk: CliHarness, run: str) -> None:
    damage(sk)
    copy = sk.home / "reverse" / f"{run}.jsonl"
    lines = copy.read_text().splitlines(keepends=True)
    for spoilt in (lines[:2] + lines[3:], [line.replace("AKIA", "AKIB") for line in lines], ["", "{\n"]):
        copy.write_text("".join(spoilt))
        result = sk("undo", run)
        assert result.code == 1
        assert f"reverse/{run}.sh" in result.err
        assert sk.inactive == _OFF


def test_keys_that_a_copy_does_not_know_of_are_in_doubt(sk: CliHarness, run: str) -> None:
    """Another machine's worker went on, or the copy could not be written."""
    damage(sk)
    copy = sk.home / "reverse" / f"{run}.jsonl"
    copy.write_text(copy.read_text().splitlines(keepends=True)[0])
    result = sk("undo", run)
    assert (result.code, sk.inactive) == (1, _OFF), result.err
    assert result.out.count("the ledger has no deactivation by this run") == len(_OFF)
    result = sk("undo", run, "--key", sk.key("web", 1))
    assert (result.code, sk.inactive) == (1, _OFF), result.err
    assert "is left unchanged" in result.out


def test_keys_in_doubt_are_found_under_a_new_name_and_what_aws_does_not_say_is_in_doubt(
    sk: CliHarness, run: str
) -> None:
    query(sk, "DELETE FROM sparekey_entries WHERE seq > 1", "DELETE FROM sparekey_claims")
    (sk.home / "reverse" / f"{run}.jsonl").unlink()
    with sk.aws.state.lock:
        account = sk.aws.state.accounts[ACCOUNT]
        user = account.users.pop("web")
        user.rename("shop", "/", sk.aws.clock.now())
        account.users["shop"] = user
    sk.deny("iam:ListAccessKeys", target="batch")
    result = sk("undo", run)
    assert result.code == 1, result.err
    assert result.out.count("the ledger has no deactivation by this run") == 1
    assert result.out.count("whether it is off is not known") == 2


def test_a_copy_that_others_may_write_is_not_used(sk: CliHarness, run: str) -> None:
    damage(sk)
    (sk.home / "reverse" / f"{run}.jsonl").chmod(0o620)
    assert sk("undo", run).code == 1
    assert sk.inactive == _OFF


def test_a_lost_database_is_put_back_from_the_copies(sk: CliHarness, run: str) -> None:
    for path in sk.home.glob("sparekey.db*"):
        path.unlink()
    result = sk("undo", run)
    assert (result.code, sk.inactive) == (0, set()), result.err
    assert f"were restored from {sk.home}/reverse/{run}.jsonl" in result.out
    assert "undone" in sk("runs").out
    assert sk("ledger", "verify").code == 0


def test_an_older_backup_is_noticed_and_its_end_put_back(sk: CliHarness, run: str) -> None:
    query(sk, "DELETE FROM sparekey_entries WHERE seq > 1", "DELETE FROM sparekey_claims")
    verified = sk("ledger", "verify", run)
    assert verified.code == 1
    assert f"run {run} ends with entry 1, its copy" in verified.err
    result = sk("undo", run)
    assert (result.code, sk.inactive) == (0, set()), result.err
    assert "entries too early, as after an older backup was restored" in result.out
    assert sk("ledger", "verify").code == 0


def test_a_ledger_that_has_gone_on_after_an_older_backup_differs_from_its_copy(
    sk: CliHarness, run: str
) -> None:
    query(sk, "DELETE FROM sparekey_entries WHERE seq > 1", "DELETE FROM sparekey_claims")
    sk("stop", run)
    assert "and its copy" in sk("ledger", "verify").err
    result = sk("undo", run)
    assert result.code == 1
    assert f"the ledger of run {run} and its copy" in result.out


def test_keys_that_an_older_backup_does_not_know_are_in_doubt(sk: CliHarness, run: str) -> None:
    query(sk, "DELETE FROM sparekey_entries WHERE seq > 1", "DELETE FROM sparekey_claims")
    (sk.home / "reverse" / f"{run}.jsonl").unlink()
    result = sk("undo", run)
    assert (result.code, sk.inactive) == (1, _OFF)
    assert result.out.count("the ledger has no deactivation by this run") == len(_OFF)
    result = sk("undo", run, "--key", sk.key("web", 1))
    assert (result.code, sk.inactive) == (1, _OFF)
    assert result.out.count("is left unchanged") == 1


def test_a_run_that_the_ledger_forgot_names_the_way_by_hand(sk: CliHarness, run: str) -> None:
    for path in (*sk.home.glob("sparekey.db*"), sk.home / "reverse" / f"{run}.jsonl"):
        path.unlink()
    result = sk("undo", run)
    assert result.code == 2
    assert f"reverse/{run}.sh has the AWS CLI command" in result.err
    assert sk("undo", "r-ffffffff").code == 2
    assert sk.inactive == _OFF


@pytest.mark.slow
def test_undo_while_another_process_locks_the_database(sk: CliHarness, run: str) -> None:
    sk.patch.setattr(database, "_BUSY_MS", 100)
    with closing(sqlite3.connect(sk.home / "sparekey.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = sk("undo", run)
        assert (result.code, sk.inactive) == (0, set()), result.err
        assert "is locked by another process" in result.out
        assert "read from the ledger, which can still be read" in result.out
    assert sk("undo", run).code == 0
    assert "undone" in sk("runs").out


@contextmanager
def _mounted(folder: Path) -> Iterator[None]:
    """Move a state to a small file system of its own."""
    folder.rename(folder.with_suffix(".before"))
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", folder], check=True)
    shutil.copytree(folder.with_suffix(".before"), folder, dirs_exist_ok=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@_ROOT
def test_undo_on_a_full_disk(sk: CliHarness, run: str) -> None:
    with _mounted(sk.home):
        with suppress(OSError), (sk.home / "sparekey.fill").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        result = sk("undo", run)
        assert (result.code, sk.inactive) == (0, set()), result.err
        assert "cannot be" in result.out
        assert "this undo is not on record" in result.out


@_ROOT
def test_undo_on_a_read_only_file_system(sk: CliHarness, run: str) -> None:
    with _mounted(sk.home):
        subprocess.run(["mount", "-o", "remount,ro", sk.home], check=True)
        result = sk("undo", run)
        assert (result.code, sk.inactive) == (0, set()), result.err
        assert "Read-only file system" in result.out
        plan = sk("plan")
        assert plan.code == 0, plan.err


def test_copies_are_private_and_hold_the_chain(sk: CliHarness, run: str) -> None:
    copy = sk.home / "reverse" / f"{run}.jsonl"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.read_text() == sk("ledger", "export", run).out
    sk("undo", run)
    assert copy.read_text() == sk("ledger", "export", run).out
    assert not any(key.secret in copy.read_text() for key in sk.aws.state.keys.values())


def test_a_copy_that_was_torn_goes_on(sk: CliHarness, run: str) -> None:
    copy = sk.home / "reverse" / f"{run}.jsonl"
    copy.write_bytes(copy.read_bytes()[:-30])
    assert sk("undo", run).code == 0
    damage(sk)
    assert sk("undo", run).code == 0


def test_no_state_directory_can_be_made(sk: CliHarness) -> None:
    sk.patch.setenv("SPAREKEY_HOME", os.devnull + "/state")
    assert sk("plan", "-o", sk.plan).code == 0
    result = sk("apply", sk.plan, "--yes")
    assert (result.code, sk.inactive) == (1, set())
    assert "SPAREKEY_HOME" in result.err


@pytest.mark.parametrize(
    "command", ["runs", "show", "undo", "ledger verify", "ledger export", "apply", "stop"]
)
def test_without_a_home_directory_what_needs_state_names_the_variable(sk: CliHarness, command: str) -> None:
    plan = sk.make_plan()
    shutil.rmtree(sk.home, ignore_errors=True)
    for name in ("HOME", "SPAREKEY_HOME", "XDG_STATE_HOME"):
        sk.patch.delenv(name, raising=False)

    def unknown(_: object) -> object:
        raise KeyError("uid not found")

    sk.patch.setattr("pwd.getpwuid", unknown)
    assert sk("audit").code == 3
    more = {"apply": [str(plan), "--yes"]}.get(
        command, ["r-12345678"] if command in ("show", "undo", "stop") else []
    )
    result = sk(*command.split(), *more)
    assert result.code == 2
    assert "there is no state directory" in result.error
    assert "SPAREKEY_HOME" in result.err
    assert sk.inactive == set()
