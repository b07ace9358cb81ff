"""The state directory and its locks."""

import os
import stat
import traceback
from pathlib import Path

import pytest

from sparekey.errors import BadInputError
from sparekey.ledger import StateError
from sparekey.run.state import State


def test_it_is_made_private_or_made_so(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    home.mkdir(parents=True, mode=0o755)
    (home / "sparekey.db").touch(mode=0o644)
    State(home).close()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "sparekey.db").stat().st_mode) == 0o600


def test_what_cannot_be_a_state_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"the state directory .* cannot be used"):
        State(tmp_path / "file" / "home")
    (tmp_path / "home" / "sparekey.db").mkdir(parents=True)
    with pytest.raises(StateError, match=r"the state file .* cannot be used"):
        State(tmp_path / "home")


def test_only_postgresql_by_url(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not one of PostgreSQL"):
        State(tmp_path, "mysql://x/y")
    shared = State(tmp_path, "postgresql://sparekey@127.0.0.1:1/none")
    shared.check_room(10**9)
    with pytest.raises(StateError, match="cannot be reached"):
        shared.try_lock("x")


@pytest.mark.parametrize("url", ["pa@ss:word@127.0.0.1/none", "pa@ss-word@127.0.0.1/none", "pa@ss]word/none"])
def test_a_password_that_breaks_the_url_is_not_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(StateError) as told:
        State(tmp_path, f"postgresql://sparekey:{url}").ledger.runs()
    shown = "".join(traceback.format_exception(told.value))
    assert "cannot be used" in shown
    assert "word@" not in shown
    assert "word/" not in shown


def test_a_directory_that_others_use_is_not_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").touch()
    with pytest.raises(StateError, match="holds more than sparekey's own files"):
        State(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_lock_is_held_once_and_leaves_nothing(tmp_path: Path) -> None:
    state = State(tmp_path / "home")
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
    state = State(tmp_path / "home")
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
    state = State(tmp_path / "home")
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
