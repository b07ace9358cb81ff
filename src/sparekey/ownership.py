"""Files and directories that only their user may write: made so, and checked before anything in them is used."""

import os
import pwd
import stat
from pathlib import Path

from sparekey.errors import RefusedError

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check_file(path: Path, what: str, status: os.stat_result) -> None:
    """Raise RefusedError where an open file (its `status`) is another user's, or others may write it.

    Root may own it, too: an administrator provides policies.
    """
    _refuse_writable(path, what, status)
    if status.st_uid not in (0, os.geteuid()):
        raise RefusedError(
            f"{what} {path} belongs to {_user_name(status.st_uid)}; nothing was done",
            f"If you trust its content, take ownership: chown {os.geteuid()} {path}",
        )
    _check_link(path, what)


def read_owned(path: Path, what: str) -> bytes:
    """The content of a file that nobody else may write; what is checked is what is read.

    Raises RefusedError, OSError.
    """
    with path.open("rb") as file:
        check_file(path, what, os.fstat(file.fileno()))
        return file.read()


def check_owned(path: Path, what: str) -> None:
    """Raise RefusedError where a file or directory is another user's, or others may write it."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise RefusedError(
            f"{what} {path} belongs to {_user_name(status.st_uid)}, not to {_user_name(os.geteuid())}; "
            "nothing was done",
            "Run sparekey as that user, or name a directory of your own with SPAREKEY_HOME.",
        )
    _refuse_writable(path, what, status)
    _check_link(path, what)


def check_directory(path: Path, what: str, *, ours: bool) -> None:
    """Raise RefusedError where others may exchange or remove what lies in a directory: they may write it.

    With `ours` also where it is another user's.
    """
    status = path.stat()
    if ours and status.st_uid not in (0, os.geteuid()):
        raise RefusedError(
            f"{what} {path} belongs to {_user_name(status.st_uid)}; nothing was done",
            "Name a directory of your own with SPAREKEY_HOME.",
        )
    if not status.st_mode & stat.S_ISVTX:
        _refuse_writable(path, what, status)


def check_ancestors(path: Path, what: str) -> None:
    """Raise RefusedError where anybody may exchange a directory that the path leads through.

    Directories that a group may write are passed: volumes of containers are, and nobody else is in that group.
    """
    for above in {*path.parents, *path.resolve().parents}:
        mode = above.stat().st_mode if above.is_dir() else 0
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise RefusedError(
                f"{what} {path} is not safe: anybody may exchange what lies in {above}; nothing was done",
                f"Close that: chmod o-w {above}; or name another directory with SPAREKEY_HOME.",
            )


def make_directories(path: Path) -> None:
    """Make a directory and those above it that are missing, closed to other users whatever the umask is."""
    if not path.is_dir():
        if path.parent != path:
            make_directories(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _refuse_writable(path: Path, what: str, status: os.stat_result) -> None:
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise RefusedError(
            f"others may write {what} {path}; nothing was done",
            f"Look at what is in it, then close it: chmod go-w {path}",
        )


def _check_link(path: Path, what: str) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
        raise RefusedError(
            f"{what} {path} is a link that {_user_name(status.st_uid)} made; nothing was done",
            "Name the place itself, or recreate the link.",
        )


def _user_name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
