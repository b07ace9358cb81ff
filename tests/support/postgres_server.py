"""A real PostgreSQL server on a free port of loopback, in a temporary directory, never as root."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg


def binaries() -> Path:
    """Where the newest server of Debian's package is."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def _other_user() -> int | None:
    """PostgreSQL refuses to run as root: whom to run it as instead."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return names.get("postgres", names.get("nobody"))


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Start one; yields the URL of its database."""
    user = _other_user()
    data = directory / "pg"
    data.mkdir()
    if user is not None:
        shutil.chown(data, user)
        for parent in (directory, *directory.parents):
            if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o111)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _run(user, "initdb", "-D", str(data), "-U", "sparekey", "-A", "trust", "-N", "--no-instructions")
    options = ["-h", "127.0.0.1", "-p", str(port), "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
    process = subprocess.Popen(
        [binaries() / "postgres", "-D", str(data), *options, "-c", "max_connections=200"],
        user=user,
        cwd=data,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"postgresql://sparekey@127.0.0.1:{port}/postgres"
        _wait(url, process)
        yield database(url, "sparekey")
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown: clients may linger
        process.wait(60)


def database(url: str, name: str, template: str = "template1") -> str:
    """A further database on the same server, empty or a copy of another."""
    _command(url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return f"{url.rsplit('/', 1)[0]}/{name}"


def drop(url: str, name: str) -> None:
    """Remove a database, whoever is still connected."""
    _command(url, f'DROP DATABASE "{name}" WITH (FORCE)')


def _command(url: str, command: LiteralString) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(command)


def _run(user: int | None, program: str, *arguments: str) -> None:
    subprocess.run(
        [binaries() / program, *arguments], user=user, cwd="/", check=True, capture_output=True, timeout=120
    )


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until it lets somebody in: it listens before it does."""
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("PostgreSQL does not answer")
