"""Several processes that use a new state in the same moment: its tables and the engine's are made once."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import postgres_server


def _all_at_once(home: Path, url: str, many: int) -> None:
    command = [sys.executable, "-m", "support.first_use_process", str(home), url]
    processes = [
        subprocess.Popen(
            command,
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(many)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * len(ends)


def test_on_sqlite(tmp_path: Path) -> None:
    _all_at_once(tmp_path / "home", "", 3)


@pytest.mark.slow
def test_on_postgresql(tmp_path: Path) -> None:
    with postgres_server.server(tmp_path) as url:
        _all_at_once(tmp_path / "home", url, 2)
