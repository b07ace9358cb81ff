"""`sparekey demo`: the whole job, told stage by stage, with nothing but this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STAGES = ("1. Audit", "2. Plan", "3. Apply", "4. Confirm", "5. Undo one key", "6. Evidence", "7. Rotate")
LAST = "    sparekey audit\n    sparekey plan -o plan.json\n    sparekey apply plan.json\n"


def test_the_demo_runs_to_its_end(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPAREKEY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "sparekey", "demo"],
        env={**kept, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    at = [done.stdout.index(f"\n{stage}\n{'-' * len(stage)}\n") for stage in STAGES]
    assert at == sorted(at)
    for result in (
        "DEACTIVATED",
        "partner-sftp",
        "REACTIVATED (",
        "[exit code 3]",
        "[exit code 0]",
        "; 0 were refused.",
    ):
        assert result in done.stdout
    assert "32 calls, each with the key that the secret had; 0 were refused." in done.stdout
    assert re.search(r"etl-nightly  AKIA\w+  Active, 8 days old", done.stdout)
    assert done.stdout.endswith(LAST)
    assert "Traceback" not in done.stdout
    assert list(tmp_path.iterdir()) == []
