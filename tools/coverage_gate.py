"""Refuse a test run that left the rooms which write untested: one line for each file that falls short.

What must be whole (every line, every branch) is listed below; everything together stays above a floor.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from coverage import Coverage

WHOLE = (
    "src/sparekey/runs/*.py",
    "src/sparekey/ledger/*.py",
    "src/sparekey/guards.py",
    "src/sparekey/aws/access_keys.py",
)
FLOOR = 90.0


def report(data_file: str = ".coverage") -> dict[str, Any]:
    """The combined data as coverage's own JSON report."""
    coverage = Coverage(data_file=data_file)
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.json")
        coverage.json_report(outfile=str(path))
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def shortfalls(found: Mapping[str, Any]) -> Iterator[str]:
    """What falls short, a line each."""
    if not found["meta"]["branch_coverage"]:
        yield "branches were not measured: run pytest under `coverage run` with branch = true"
        return
    for pattern in WHOLE:
        names = [name for name in sorted(found["files"]) if fnmatch(name, pattern)]
        if not names:
            yield f"{pattern}: no such file was measured"
        for name in names:
            measured = found["files"][name]
            lines = ", ".join(map(str, measured["missing_lines"]))
            branches = ", ".join(f"{start}->{end}" for start, end in measured["missing_branches"])
            if lines or branches:
                missing = "; ".join(
                    part for part in (lines and f"lines {lines}", branches and f"branches {branches}") if part
                )
                yield f"{name}: {measured['summary']['percent_covered']:.1f} % of 100 %, without {missing}"
    whole = found["totals"]["percent_covered"]
    if whole < FLOOR:
        yield f"everything together: {whole:.1f} %, the floor is {FLOOR:g} %"
        for name, measured in sorted(found["files"].items()):
            if measured["summary"]["percent_covered"] < FLOOR:
                yield f"{name}: {measured['summary']['percent_covered']:.1f} %"


def main() -> int:
    """Print what falls short; 1 if anything does."""
    found = report()
    short = list(shortfalls(found))
    for line in short:
        print(f"coverage: {line}", file=sys.stderr)
    if not short:
        print(f"coverage: {found['totals']['percent_covered']:.1f} %, and whole where keys are written")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
