"""Deleting is typed by hand on a real terminal, key by key; anything else keeps the key."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparekey.sandbox import Sandbox
from sparekey.sandbox.state import SandboxKey

ACCOUNT = "111122223333"
COMPANY = """
[caller]
account = "111122223333"
user = "ops"
[organization]
management = "111122223333"
[[account]]
id = "111122223333"
name = "Main"
[[account.user]]
name = "ops"
key = [{ age = "20d", used = { ago = "1h", service = "iam" } }]
[[account.user]]
name = "app"
key = [
  { age = "400d", used = { ago = "100d", service = "s3" } },
  { age = "30d", used = { ago = "1h", service = "s3" } },
]
[[account]]
id = "222233334444"
name = "Member"
root_key = [{ age = "900d", used = { ago = "400d", service = "iam" } }]
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[Sandbox]:
    with Sandbox(COMPANY) as running:
        yield running


@pytest.fixture
def env(aws: Sandbox, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, **aws.env(), "SPAREKEY_HOME": str(tmp_path / "home"), "COLUMNS": "200"}


def is_gone(key: SandboxKey) -> bool:
    """True where AWS no longer knows the key."""
    return key.deleted is not None


# The same command, for keys that were deactivated a moment ago.
_WITHOUT_FLOOR = """
from datetime import timedelta
from sparekey.app import deletion
deletion.SHORTEST_AGE = timedelta(0)
from sparekey.cli import main
main()
"""


def run(env: dict[str, str], *args: str, typed: str | None = None, floor: bool = True) -> tuple[int, str]:
    """Run the command, on a terminal where something is typed; returns its exit code and all it said."""
    command = [sys.executable, *(("-m", "sparekey") if floor else ("-c", _WITHOUT_FLOOR)), *args]
    if typed is None:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        with subprocess.Popen(
            command, env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            result, _ = process.communicate(timeout=60)
        return process.returncode, result
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.slow
def test_a_retired_key_is_deleted_only_when_account_and_key_are_typed(
    aws: Sandbox, env: dict[str, str], tmp_path: Path
) -> None:
    old = aws.key("app").id
    plan = tmp_path / "plan.json"
    assert run(env, "plan", "--user", "app", "-o", str(plan))[0] == 0
    assert run(env, "apply", str(plan), "--yes")[0] == 0

    code, result = run(env, "delete", "--older-than", "6d", typed="\n")
    assert (code, "a weekly job would not have missed the key" in result) == (2, True)
    code, result = run(env, "delete", "--older-than", "7d")
    assert (code, "no terminal" in result) == (2, True)
    code, result = run(env, "delete", "--older-than", "7d", typed="\n")
    assert (code, "no run deactivated a key that long ago" in result) == (0, True)
    code, result = run(env, "delete", "--older-than", "0m", typed=f"{old}\n", floor=False)
    assert (code, "kept" in result) == (3, True)
    assert not is_gone(aws.key("app"))

    code, result = run(env, "delete", "--older-than", "0m", typed=f"{ACCOUNT} {old}\n", floor=False)
    assert (code, f"{old}: deleted" in result) == (0, True)
    assert is_gone(aws.key("app"))
    assert "whole" in run(env, "ledger", "verify")[1]


def test_a_root_key_that_signs_here_is_not_deleted(aws: Sandbox, env: dict[str, str], tmp_path: Path) -> None:
    [key] = aws.state.accounts["222233334444"].root_keys
    (tmp_path / "config").write_text(f"[default]\naws_access_key_id = {key.id}\naws_secret_access_key = s\n")
    args = ("delete", "--root", key.id, "--account", "222233334444", "--older-than", "90d")
    ours = {**env, "AWS_CONFIG_FILE": str(tmp_path / "config")}
    code, result = run(ours, *args, typed=f"222233334444 {key.id}\n")
    assert (code, "signs sparekey's own calls; nothing was deleted" in result) == (1, True)
    assert not is_gone(key)


@pytest.mark.slow
def test_a_root_key_is_deleted_only_where_its_last_use_is_old_enough(
    aws: Sandbox, env: dict[str, str]
) -> None:
    [key] = aws.state.accounts["222233334444"].root_keys
    typed = f"222233334444 {key.id}\n"
    args = ("delete", "--root", key.id, "--account", "222233334444", "--older-than")
    code, result = run(env, *args, "500d", typed=typed)
    assert (code, "was created or used at" in result) == (1, True)
    assert not is_gone(key)
    code, result = run(env, *args, "90d", typed=typed)
    assert (code, "deleted (request" in result) == (0, True)
    assert is_gone(key)
    assert run(env, "delete", "--root", key.id, "--older-than", "90d")[0] == 2
