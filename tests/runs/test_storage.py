"""The state directory and its locks."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import traceback
from contextlib import closing
from pathlib import Path

import pytest

from sparekey.errors import BadInputError, RefusedError
from sparekey.ledger.database import StateAwayError, StateError, StateFullError
from sparekey.runs import storage as state_module
from sparekey.runs.queue import Queue
from sparekey.runs.storage import StateDirectory
from sparekey.runs.worker import RunExecutor
from sparekey.runs.worker_leases import WorkerLeases
from support.clocks import NOW


def test_it_is_made_private_or_made_so(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    home.mkdir(parents=True, mode=0o755)
    (home / "sparekey.db").touch(mode=0o644)
    StateDirectory(home).close()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "sparekey.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("left", [(), ("reverse",), ("locks", "reverse", "sparekey.db-wal")])
def test_a_directory_that_others_could_look_into_is_closed_before_a_state_is_in_it(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in left:
        (home / name).touch(0o600)
    home.chmod(0o755)
    StateDirectory(home).close()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_what_cannot_be_a_state_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"the state directory .* cannot be used"):
        StateDirectory(tmp_path / "file" / "home")
    (tmp_path / "home" / "sparekey.db").mkdir(parents=True)
    with pytest.raises(StateError, match=r"the state file .* cannot be used"):
        StateDirectory(tmp_path / "home")


def test_only_postgresql_by_url(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not one of PostgreSQL"):
        StateDirectory(tmp_path, "mysql://x/y")
    shared = StateDirectory(tmp_path, "postgresql://sparekey@127.0.0.1:1/none")
    shared.check_room(10**9)
    with pytest.raises(StateError, match=r"PostgreSQL 127.0.0.1:1/none cannot be used"):
        shared.try_lock("x")


@pytest.mark.parametrize("url", ["pa@ss:word@127.0.0.1/none", "pa@ss-word@127.0.0.1/none", "pa@ss]word/none"])
def test_a_password_that_breaks_the_url_is_not_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(StateError) as received:
        StateDirectory(tmp_path, f"postgresql://sparekey:{url}").ledger.runs()
    shown = "".join(traceback.format_exception(received.value))
    assert "cannot be used" in shown
    assert "word@" not in shown
    assert "word/" not in shown


def test_a_directory_that_others_use_is_not_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").touch()
    with pytest.raises(StateError, match="holds more than sparekey's own files"):
        StateDirectory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_state_that_others_could_write_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    StateDirectory(home).close()
    for path, mode in ((home / "sparekey.db", 0o620), (home, 0o770), (home, 0o702)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(
            RefusedError, match=f"others may write the state (file|directory) {path}"
        ) as received:
            StateDirectory(home)
        assert f"chmod go-w {path}" in received.value.hint
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(before)
    StateDirectory(home).close()


@pytest.mark.parametrize("theirs", ["", "sparekey.db", "sparekey.db-wal"])
def test_a_state_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    home = tmp_path / "home"
    StateDirectory(home).close()
    (home / "sparekey.db-wal").touch()
    stranger = home / theirs
    if os.geteuid() == 0:
        os.chown(stranger, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(
        RefusedError, match=f"the state (file|directory) {home}.* belongs to .*, not to "
    ) as received:
        StateDirectory(home)
    assert "SPAREKEY_HOME" in received.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
def test_a_link_that_another_user_made_is_refused(tmp_path: Path) -> None:
    StateDirectory(tmp_path / "mine").close()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "mine")
    StateDirectory(link).close()
    os.chown(link, 65534, 65534, follow_symlinks=False)
    with pytest.raises(RefusedError, match=f"{link} is a link that .* made"):
        StateDirectory(link)


def test_a_state_below_what_anybody_may_exchange_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(RefusedError, match=f"anybody may exchange what lies in {tmp_path / 'open'}"):
        StateDirectory(tmp_path / "open" / "home")
    assert list((tmp_path / "open").iterdir()) == []
    (tmp_path / "open").chmod(0o1777)
    StateDirectory(tmp_path / "open" / "home").close()


def test_no_umask_opens_what_it_makes(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state = StateDirectory(tmp_path / "above" / "home")
        assert state.ledger.runs() == ()
        with state.held("a"):
            made = [tmp_path / "above", *(tmp_path / "above").rglob("*")]
            assert [path for path in made if path.stat().st_mode & 0o077] == []
    finally:
        os.umask(before)
    state.close()


ODD_NAMES = (
    "a?b",
    "100%25",
    "a#b",
    " a b ",
    "?mode=memory&uri=true",
    "ümläut 'q' \"d\"",
    ":memory:",
    "file:x",
    "~",
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_directory_of_any_name_holds_its_database(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "above" / name
    state = StateDirectory(home)
    state.ledger.append("r-12345678", "opened", {}, at=NOW, must_be_first=True)
    engine = Queue(state, WorkerLeases(state.ledger, state), RunExecutor(None))  # type: ignore[arg-type]  # never asked
    engine.prepare()
    engine.stop()
    state.close()
    assert {path.name for path in home.iterdir()} == {"locks", "reverse", "sparekey.db"}
    assert [path.name for path in tmp_path.iterdir()] == ["above"]
    assert [path.name for path in (tmp_path / "above").iterdir()] == [name]
    with closing(sqlite3.connect(home / "sparekey.db")) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert {"sparekey_entries", "workflow_status"} <= tables


def test_what_is_waited_for_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory(tmp_path / "home")
    monkeypatch.setattr(state_module, "_SETUP_TAKES", 0.0)
    with state.held("setup"), pytest.raises(StateError, match="another process has been preparing"):
        _ = state.ledger


def test_a_directory_that_was_removed_is_told(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "home")
    shutil.rmtree(tmp_path / "home")
    with pytest.raises(StateAwayError, match=r"the state directory .*home cannot be used: No such file"):
        state.try_lock("a")


def test_a_database_that_is_gone_or_replaced_lets_no_key_be_deactivated(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "home")
    going = (("stopped",), ("opened",))
    state.ledger.append("r-12345678", "opened", {}, at=NOW, must_be_first=True)
    state.ledger.append("r-12345678", "intent", {}, at=NOW, unless_last=going)
    state.check()
    path = tmp_path / "home" / "sparekey.db"
    path.rename(path.with_name("sparekey.old"))
    for what in ("removed", "replaced"):
        with pytest.raises(StateAwayError, match=f"{path} was {what} while sparekey uses it"):
            state.ledger.append("r-12345678", "intent", {}, at=NOW, unless_last=going)
        with pytest.raises(StateAwayError, match="no key is deactivated"):
            state.check()
        path.touch()
    state.ledger.append("r-12345678", "written", {}, at=NOW)  # what was begun comes to its end
    state.close()


def test_a_second_look_at_a_state_drops_no_lock_of_sqlite(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops all POSIX locks that a process holds on it."""
    state = StateDirectory(tmp_path / "home")
    state.ledger.append("r-12345678", "opened", {}, at=NOW, must_be_first=True)
    StateDirectory(tmp_path / "home").close()
    wal = tmp_path / "home" / "sparekey.db-wal"
    number = wal.stat().st_ino
    # Another process that finds no lock believes itself the last, and removes the journal as it leaves.
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('select 1 from sparekey_meta')"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "home" / "sparekey.db"], check=True)
    assert wal.stat().st_ino == number
    state.close()


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory(tmp_path / "home")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(StateFullError, match="is full: 100 bytes are free"):
        state.check()


def test_a_lock_is_held_once_and_leaves_nothing(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "home")
    with state.held("a"):
        assert state.is_held("a")
        assert state.try_lock("a") is None
        assert not state.is_held("b")
        with pytest.raises(StateError, match="a is in use"), state.held("a"):
            pass
    assert not state.is_held("a")
    assert list((tmp_path / "home" / "locks").iterdir()) == []


def test_a_lock_taken_on_a_file_that_was_just_removed_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDirectory(tmp_path / "home")
    path = tmp_path / "home" / "locks" / "a.lock"
    opened = os.open
    removed: list[bool] = []

    def open_and_remove(name: os.PathLike[str], *args: int) -> int:
        descriptor = opened(name, *args)
        if not removed:
            removed.append(True)
            path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_remove)
    lock = state.try_lock("a")
    assert lock is not None
    assert path.exists()
    lock.release()


def test_a_lock_on_a_file_that_another_made_anew_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDirectory(tmp_path / "home")
    path = tmp_path / "home" / "locks" / "a.lock"
    opened = os.open
    swapped: list[bool] = []

    def open_and_swap(name: os.PathLike[str], *args: int) -> int:
        descriptor = opened(name, *args)
        if not swapped:
            swapped.append(True)
            path.rename(path.with_suffix(".old"))
            path.touch()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_swap)
    lock = state.try_lock("a")
    assert lock is not None
    lock.release()
    assert not path.exists()


def test_a_file_that_sqlite_removes_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "sparekey.db-shm"
    monkeypatch.setattr(Path, "iterdir", lambda _path: iter([gone]))
    with closing(StateDirectory(tmp_path)) as state:
        assert state.ledger.runs() == ()
    gone.mkdir()
    with pytest.raises(StateError, match="it is not a file"):
        StateDirectory(tmp_path)
