"""A command: green where it ends with status 0 within its time limit."""

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import BinaryIO, cast

from sparekey.policy import PolicyError
from sparekey.probes import OUTPUT_LIMIT, Common, Reading, Tools, cut


class Probe(Common, frozen=True, kw_only=True):
    """`argv` is run as it stands, without a shell, with only the variables that `env` names."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ("PATH",)
    cwd: str | None = None

    def check(self) -> None:
        """Raise PolicyError where there is nothing to run."""
        super().check()
        if not self.argv or not self.argv[0]:
            raise PolicyError(f"probe {self.name!r} has an empty argv")

    def ask(self, tools: Tools) -> Reading:
        """Run it; one that cannot be started says nothing, one that runs too long is red."""
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
            return Reading(None, f"{self.argv[0]} cannot be started: {error.strerror}")
        return self._wait(process)

    def _wait(self, process: "subprocess.Popen[bytes]") -> Reading:
        head = bytearray()
        stream = cast("BinaryIO", process.stdout)
        reader = threading.Thread(target=_keep_head, args=(stream, head), daemon=True)
        reader.start()
        try:
            status = process.wait(self.timeout)
            said = f"exit status {status}" if status >= 0 else f"killed by signal {-status}"
        except subprocess.TimeoutExpired:
            status, said = 1, f"no end after {self.timeout:g} s"
        # What it started itself may live on and hold the pipe open: it ends with its group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        stream.close()
        output = bytes(head).decode(errors="replace").strip()
        return Reading(status == 0, cut(f"{said}: {output}" if output else said))


def _keep_head(stream: BinaryIO, head: bytearray) -> None:
    """Read all of the output, so that the command does not block, and keep its beginning."""
    while chunk := stream.read(65536):
        head += chunk[: max(0, 4 * OUTPUT_LIMIT - len(head))]
