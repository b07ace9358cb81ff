"""Ctrl-C and closed pipes, as a real process gets them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparekey.cli import cli
from sparekey.cli.failures import run_guarded
from sparekey.ledger.store import Ledger
from sparekey.sandbox import Sandbox
from sparekey.sandbox.scenario import Latency
from support import postgres_server
from support.cli_harness import environment

pytestmark = pytest.mark.slow

USERS = 4
COMPANY = f"""
caller = {{ account = "111122223333", user = "ops" }}
[[account]]
id = "111122223333"
[[account.user]]
name = "ops"
key = [{{ age = "20d" }}]
[[account.many]]
prefix = "app"
count = {USERS}
key = [
  {{ age = "300d" }},
  {{ age = "200d", used = {{ ago = "80d" }} }},
  {{ age = "50d", used = {{ ago = "1h" }} }},
]
"""


class Shell:
    """Real processes beside one sandbox."""

    def __init__(self, aws: Sandbox, folder: Path, capsys: "pytest.CaptureFixture[str]") -> None:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPAREKEY_"))
        }
        nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        self.env = {**kept, **nothing, **aws.env(), "SPAREKEY_HOME": str(folder / "home")}
        self.aws, self.folder, self.capsys = aws, folder, capsys

    def start(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "sparekey", *args],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def run_id(self) -> str:
        """The run that the plan becomes."""
        return f"r-{json.loads((self.folder / 'plan.json').read_text())['digest'][:8]}"

    def run(self, *args: str, expect: int = 0) -> str:
        """Run a command to its end, in this process: it is not what is tested."""
        with environment(self.env, self.aws.clock) as patch:
            patch.chdir(self.folder)
            code = run_guarded(cli, args)
        out, err = self.capsys.readouterr()
        assert code == expect, err
        return out

    def interrupt_at(self, when: Callable[[], bool], *args: str) -> tuple[int, str, str]:
        """Run a command and press Ctrl-C once something is so."""
        with self.start(*args) as process:
            until = time.monotonic() + 60
            while not when():
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return process.returncode, out, err

    def asked(self, action: str) -> int:
        return sum(call.action == action for call in list(self.aws.state.calls))

    @property
    def inactive(self) -> set[str]:
        return {id_ for id_, key in self.aws.state.keys.items() if key.status == "Inactive"}


@pytest.fixture
def shell(tmp_path: Path, capsys: "pytest.CaptureFixture[str]") -> Iterator[Shell]:
    with Sandbox(COMPANY) as aws:
        yield Shell(aws, tmp_path, capsys)


def test_ctrl_c_during_apply_leaves_a_ledger_that_says_what_was_done(shell: Shell) -> None:
    shell.run("plan", "-o", "plan.json")
    shell.aws.state.faults.append(Latency(action="iam:*", seconds=0.05))
    code, out, err = shell.interrupt_at(
        lambda: shell.asked("iam:UpdateAccessKey") > 0, "apply", "plan.json", "--yes"
    )
    assert (code, out) == (130, "")
    assert "interrupted" in err
    done = shell.inactive
    assert 1 <= len(done) <= USERS  # users' first keys, which were in hand; no second one

    received = json.loads(shell.run("show", shell.run_id, "--format", "json"))
    assert received["state"] == "stopped"
    assert len({step["user"] for step in received["steps"] if step["key"] in done}) == len(done)
    switched = {step["key"] for step in received["steps"] if step["request_ids"]}
    assert switched == done
    assert {step["state"] for step in received["steps"] if step["key"] in done} == {"unwatched"}
    assert {step["state"] for step in received["steps"] if step["key"] not in done} == {"planned"}

    shell.aws.state.faults.clear()
    shell.run("apply", "plan.json", "--yes")
    assert len(shell.inactive) == 2 * USERS
    assert shell.asked("iam:UpdateAccessKey") == 2 * USERS  # nothing was done twice
    assert shell.run("ledger", "verify").split()[1] == "whole"


def test_a_worker_carries_what_is_handed_over_until_it_is_told_to_end(shell: Shell) -> None:
    shell.run("plan", "-o", "plan.json")
    assert (
        json.loads(shell.run("apply", "plan.json", "--yes", "--detach", "--format", "json"))["state"]
        == "applying"
    )
    assert shell.inactive == set()
    with shell.start("worker") as worker:
        until = time.monotonic() + 60
        while json.loads(shell.run("show", shell.run_id, "--format", "json"))["state"] != "unwatched":
            assert worker.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=60)
    assert (worker.returncode, out) == (0, "")
    assert "working as arn:aws:iam::111122223333:user/ops" in err
    assert err.endswith("stopped; unfinished runs wait for the next worker\n")
    assert len(shell.inactive) == 2 * USERS


def test_a_worker_whose_database_went_away_ends_when_told_twice(shell: Shell) -> None:
    with postgres_server.server(shell.folder) as url:
        shell.env["SPAREKEY_DATABASE_URL"] = url
        worker = shell.start("worker")
        ledger = Ledger.open(url)
        until = time.monotonic() + 60
        while not ledger.workers():
            assert worker.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        ledger.close()
    time.sleep(3)  # the worker's next rounds find nobody
    with worker:
        for _ in range(2):
            worker.send_signal(signal.SIGTERM)
            time.sleep(1)
        out, err = worker.communicate(timeout=30)
    assert out == ""
    assert worker.returncode in (1, -signal.SIGTERM)
    assert "Traceback" not in err


def test_ctrl_c_during_an_audit_says_what_was_covered(shell: Shell) -> None:
    shell.aws.state.faults.append(Latency(action="iam:ListAccessKeys", seconds=1.5))
    code, out, err = shell.interrupt_at(lambda: shell.asked("iam:ListAccessKeys") > 0, "audit")
    assert (code, out) == (130, "")
    assert "0 of 1 accounts with 0 users were read; the rest was not" in err


def test_ctrl_c_while_nothing_was_asked_yet(shell: Shell) -> None:
    shell.aws.state.faults.append(Latency(action="sts:*", seconds=1))
    code, out, err = shell.interrupt_at(
        lambda: shell.asked("sts:GetCallerIdentity") > 0, "plan", "-o", "plan.json"
    )
    assert (code, out, err) == (130, "", "\ninterrupted\n")
    assert not (shell.folder / "plan.json").exists()


@pytest.mark.parametrize("args", [("audit", "--format", "json"), ("plan",), ("--help",)], ids=" ".join)
def test_whoever_stops_reading_hears_no_complaint(shell: Shell, args: tuple[str, ...]) -> None:
    with shell.start(*args) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        err = process.stderr.read()
        process.wait(60)
    assert err == ""
    assert process.returncode in (0, 1)  # --help may have been written before the pipe was closed


def test_a_full_disk_under_stdout_is_told(shell: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sparekey", "audit"],
            env=shell.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: the report cannot be written to stdout: No space left on device\nhint: "
    )
    assert len(done.stderr.splitlines()) == 2


def test_a_terminal_that_cannot_show_a_letter_is_no_failure(shell: Shell) -> None:
    shell.env["PYTHONIOENCODING"] = "ascii"
    with shell.start("audit", "--cis", "4.0") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.startswith("Read as arn:aws:iam::")
    assert "CIS 4.0: 1.13 \\xb7 two-active-keys" in out
