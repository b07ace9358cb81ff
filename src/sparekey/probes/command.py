"""A command: healthy where it ends with status 0 within its time limit."""

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import BinaryIO, cast

from sparekey.policy import FieldError
from sparekey.probes.interface import OUTPUT_LIMIT, BaseProbe, ProbeResult, ProbeTools, shorten_output

_POLL = 0.05  # seconds: only where something else holds the pipe is the command's end not heard at once
_PIPE, _CHUNK = 1024 * 1024, 65536


class CommandProbe(BaseProbe, frozen=True, kw_only=True):
    """`argv` is run as it stands, without a shell, with only the variables that `env` names."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ("PATH",)
    cwd: str | None = None

    def validate(self) -> None:
        """Raise FieldError for what cannot be run."""
        super().validate()
        if not self.argv or not self.argv[0]:
            raise FieldError("argv", "it names no command")
        for field, words in (("argv", self.argv), ("env", self.env), ("cwd", (self.cwd or ".",))):
            if any("\0" in word for word in words):
                raise FieldError(field, "it has a character that no command line can have")
        if any(not name or "=" in name for name in self.env):
            raise FieldError("env", "it takes names of variables, such as PATH, without a value")

    def check(self, tools: ProbeTools) -> ProbeResult:
        """Run it; one that cannot be started is unknown, one that runs too long is unhealthy."""
        environment = {name: tools.environ[name] for name in self.env if name in tools.environ}
        try:
            process = subprocess.Popen(  # noqa: S603  # the policy's own command, and no shell
                self.argv,
                env=environment,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            return ProbeResult(None, f"{self.argv[0]} cannot be started: {error.strerror}")
        return self._wait(process)

    def _wait(self, process: "subprocess.Popen[bytes]") -> ProbeResult:
        with cast("BinaryIO", process.stdout) as stream:
            output = _OutputHead(stream)
            ended = self._outcome(process, output)
            # What it started itself may live on: it ends with its group, where it has not left that.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            output.read_for(0.0)
        if not ended:
            ending = f"no end after {self.timeout:g} s"
        else:
            ending = f"exit status {status}" if status >= 0 else f"killed by signal {-status}"
        text = bytes(output.head).decode(errors="replace").strip()
        return ProbeResult(ended and status == 0, shorten_output(f"{ending}: {text}" if text else ending))

    def _outcome(self, process: "subprocess.Popen[bytes]", output: "_OutputHead") -> bool:
        """Read its output until it ends, False where that takes too long; others may hold the pipe for longer."""
        deadline = time.monotonic() + self.timeout
        while process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if not output.read_for(min(left, _POLL)):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, _POLL))
        return True


class _OutputHead:
    """The beginning of what comes out of a pipe; all of it is read, so that nobody blocks on it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.head = bytearray()
        self._stream, self._is_open = stream, True

    def read_for(self, seconds: float) -> bool:
        """Wait for output and read what there is, no more than a pipe holds; False once nobody can write."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stream, selectors.EVENT_READ)
            for _ in range(_PIPE // _CHUNK):
                if not self._is_open or not selector.select(seconds):
                    break
                chunk = self._stream.read(_CHUNK)
                self.head += chunk[: max(0, 4 * OUTPUT_LIMIT - len(self.head))]
                self._is_open, seconds = bool(chunk), 0.0
        return self._is_open


PROBE = CommandProbe
