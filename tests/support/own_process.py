"""The command line as a process of its own, on a practice AWS, with nothing of the tester's environment."""

import os
import subprocess
import sys
from pathlib import Path

from sparekey.sandbox import Sandbox


def practice_environment(aws: Sandbox, home: Path, **more: str) -> dict[str, str]:
    """An environment that points at a sandbox and a state directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPAREKEY_"))}
    return {**kept, **aws.env(), "SPAREKEY_HOME": str(home), **more}


def run_sparekey(words: list[str], env: dict[str, str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder; stdout and stderr are one text, as a terminal shows them."""
    return subprocess.run(
        [sys.executable, "-m", "sparekey", *words],
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
