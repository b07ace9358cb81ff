"""A small version of `make bench-load`: real processes, several runs, probes and console streams at once."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_several_runs_probes_and_streams_are_served_and_a_broken_endpoint_gets_its_keys_back() -> None:
    sizes = {"keys": 24, "accounts": 4, "probes": 8, "interval": 3, "runs": 3, "streams": 6, "minutes": 0.1}
    arguments = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "load.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("24 keys of 4 accounts in 3 runs: ")
    assert "8 probes every 3 s, 6 streams" in done.stdout
    assert "its 6 keys are active again" in done.stdout
    assert done.stdout.endswith("every promise held\n")
