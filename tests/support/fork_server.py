"""Starts processes quickly: all is imported once, and each job runs in a fork of this process.

It reads jobs as JSON lines and answers each with the number of its process, and later with its exit status.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent


class ForkServer:
    """The process, seen from a test; `env` says where AWS is and who asks."""

    def __init__(self, env: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(ROOT.parent), str(ROOT.parent.parent / "src")])
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env, "PYTHONPATH": path},
        )
        self.lock = threading.Lock()

    def run(self, job: object) -> int:
        """Run a job to its end; the exit status, negative for a signal."""
        return self.wait(self.start(job))

    def start(self, job: object) -> int:
        """Start a job; its process id."""
        return int(self._ask(b"start " + msgspec.json.encode(job)))

    def wait(self, pid: int) -> int:
        """Wait for one that was started."""
        return int(self._ask(f"wait {pid}".encode()))

    def _ask(self, line: bytes) -> bytes:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        with self.lock:
            stdin.write(line + b"\n")
            stdin.flush()
            return stdout.readline()

    def close(self) -> None:
        """End it."""
        with self.process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    """Fork a process for each job."""
    from support.killed_process import KillJob, connected, run

    gateway = connected()
    for line in sys.stdin.buffer:
        word, rest = line.split(b" ", 1)
        if word == b"start":
            pid = os.fork()
            if pid == 0:
                os.dup2(2, 1)
                run(msgspec.json.decode(rest, type=KillJob), gateway)
                sys.stderr.flush()
                os._exit(0)
            _answer(pid)
        else:
            _, status = os.waitpid(int(rest), 0)
            _answer(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
