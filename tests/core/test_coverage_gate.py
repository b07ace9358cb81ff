"""The gate that holds `make test` to its coverage."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "coverage_gate.py"
WHOLE = {
    "summary": {"percent_covered": 100.0},
    "missing_lines": [],
    "missing_branches": [],
}
PART = {
    "summary": {"percent_covered": 87.5},
    "missing_lines": [7, 9],
    "missing_branches": [[6, 7], [12, -1]],
}


@pytest.fixture(name="gate")
def fixture_gate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_gate", TOOL)
    assert spec is not None
    assert spec.loader is not None
    gate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gate)
    return gate


def found(total: float = 95.0, branches: bool = True, **files: dict[str, Any]) -> dict[str, Any]:
    names = {"run": "src/sparekey/runs/apply.py", "guards": "src/sparekey/guards.py"}
    names |= {"ledger": "src/sparekey/ledger/store.py", "keys": "src/sparekey/aws/access_keys.py"}
    names |= {"other": "src/sparekey/report/csv.py"}
    return {
        "meta": {"branch_coverage": branches},
        "totals": {"percent_covered": total},
        "files": {names[name]: measured for name, measured in files.items()},
    }


def test_whole_where_it_must_be_is_enough(gate: ModuleType) -> None:
    assert list(gate.shortfalls(found(run=WHOLE, ledger=WHOLE, guards=WHOLE, keys=WHOLE, other=PART))) == []


def test_one_missing_branch_is_too_many(gate: ModuleType) -> None:
    branch = {**WHOLE, "summary": {"percent_covered": 99.9}, "missing_branches": [[3, 5]]}
    assert list(gate.shortfalls(found(run=branch, ledger=WHOLE, guards=WHOLE, keys=PART))) == [
        "src/sparekey/runs/apply.py: 99.9 % of 100 %, without branches 3->5",
        "src/sparekey/aws/access_keys.py: 87.5 % of 100 %, without lines 7, 9; branches 6->7, 12->-1",
    ]


def test_a_file_that_was_not_measured_is_no_pass(gate: ModuleType) -> None:
    assert list(gate.shortfalls(found(ledger=WHOLE, guards=WHOLE, keys=WHOLE))) == [
        "src/sparekey/runs/*.py: no such file was measured"
    ]


def test_the_floor_names_who_is_below_it(gate: ModuleType) -> None:
    assert list(
        gate.shortfalls(found(89.9, run=WHOLE, ledger=WHOLE, guards=WHOLE, keys=WHOLE, other=PART))
    ) == [
        "everything together: 89.9 %, the floor is 90 %",
        "src/sparekey/report/csv.py: 87.5 %",
    ]


def test_lines_alone_are_not_enough(gate: ModuleType) -> None:
    (line,) = gate.shortfalls(found(branches=False, run=WHOLE, ledger=WHOLE, guards=WHOLE, keys=WHOLE))
    assert "branches were not measured" in line


def test_it_reads_what_coverage_wrote(tmp_path: Path) -> None:
    """A tiny project with one untested branch in its guards, and without the other rooms."""
    package = tmp_path / "src" / "sparekey"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "guards.py").write_text("def f(x):\n    if x:\n        return 1\n    return 2\n")
    (tmp_path / ".coveragerc").write_text("[run]\nbranch = true\nsource = sparekey\nrelative_files = true\n")
    program = "import sys; sys.path.insert(0, 'src'); from sparekey.guards import f; f(1)"
    (tmp_path / "go.py").write_text(program)
    subprocess.run([sys.executable, "-m", "coverage", "run", "go.py"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, str(TOOL)], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "coverage: src/sparekey/guards.py: 66.7 % of 100 %, without lines 4; branches 2->4" in done.stderr
    assert "coverage: src/sparekey/aws/access_keys.py: no such file was measured" in done.stderr
    assert done.stdout == ""
