"""`make quick`: which tests run for what has changed."""

import subprocess
from pathlib import Path

import quick


def test_a_module_runs_its_own_tests_and_a_test_runs_itself() -> None:
    assert quick.targets_of(["src/sparekey/ledger/store.py", "tests/core/test_plan.py", "README.md"]) == [
        "tests/core/test_plan.py",
        "tests/ledger/test_store.py",
        "tests/test_architecture.py",
    ]


def test_a_module_without_tests_of_its_own_runs_its_room() -> None:
    assert "tests/ledger" in quick.targets_of(["src/sparekey/ledger/events.py"])


def test_a_module_at_the_top_runs_its_test_or_all_of_core() -> None:
    assert "tests/core/test_guards.py" in quick.targets_of(["src/sparekey/guards.py"])
    assert "tests/core" in quick.targets_of(["src/sparekey/model.py"])


def test_a_test_that_was_removed_is_not_run() -> None:
    assert quick.targets_of(["tests/core/test_no_longer.py"]) == ["tests/test_architecture.py"]


def test_what_changed_is_what_git_says(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["config", "user.email", "a@example.com"], ["config", "user.name", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "kept").write_text("1")
    (tmp_path / "changed").write_text("1")
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    subprocess.run(["git", "commit", "-qm", "Begin"], cwd=tmp_path, check=True)
    (tmp_path / "changed").write_text("2")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "one").write_text("1")
    assert quick.changed(tmp_path) == ["changed", "new/one"]
