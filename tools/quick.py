"""Lint, types and the fast tests of the rooms that changed: the loop while writing, in seconds (`make quick`).

A changed file `src/sparekey/<room>/<module>.py` runs `tests/<room>/test_<module>.py`, else all of `tests/<room>`; a
module at the top runs its own test, else `tests/core`; and a changed test runs itself. Tests that are marked `slow` are
left to `make test`, and so is what other rooms make of a change.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What cannot be placed runs what holds everywhere.
EVERYWHERE = ("tests/test_architecture.py",)


def changed(root: Path = ROOT) -> list[str]:
    """Paths that differ from the last commit, new files included."""
    command = ["git", "status", "--porcelain", "--untracked-files=all", "--no-renames"]
    lines = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted(line[3:].strip('"') for line in lines)


def targets_of(paths: Iterable[str], root: Path = ROOT) -> list[str]:
    """The test files and folders that belong to the changed paths."""
    targets = set(EVERYWHERE)
    for path in paths:
        parts = Path(path).parts
        if parts[:2] == ("src", "sparekey"):
            room = Path(parts[2]).stem if len(parts) > 2 else ""
            module = Path(path).stem
            own = [
                f"tests/{room}/test_{module}.py",
                f"tests/{room}",
                f"tests/core/test_{room}.py",
                "tests/core",
            ]
            targets.add(next(target for target in own if (root / target).exists()))
        elif parts[0] == "tests" and parts[-1].startswith("test_") and (root / path).exists():
            targets.add(path)
    return sorted(targets)


def main() -> int:
    """The first exit code that is not 0, or 0."""
    paths = changed()
    targets = targets_of(paths)
    print("quick:", *targets)
    python = [sys.executable, "-m"]
    # No test selected is pytest's 5: a folder may hold slow tests only.
    for command, fine in (
        ([*python, "ruff", "check", "."], {0}),
        ([*python, "ruff", "format", "--check", "."], {0}),
        ([*python, "mypy"], {0}),
        ([*python, "pytest", "-m", "not slow", "-n", "2", "--dist", "loadfile", *targets], {0, 5}),
    ):
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code not in fine:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
