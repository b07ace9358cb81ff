"""What the state of this process's environment holds of runs."""

from sparekey import app
from sparekey.model import RunRecord


def recorded_runs() -> tuple[RunRecord, ...]:
    """Every run, oldest first."""
    with app.run_records() as runs:
        return runs.list()


def recorded_run(run: str) -> RunRecord:
    """One run."""
    with app.run_records() as runs:
        return runs.show(run)
