"""Ids of runs as people give them, whole or cut short."""

from collections.abc import Iterable

from sparekey.errors import BadInputError
from sparekey.model import StepRecord
from sparekey.plan import Step

PREFIX = "r-"
_SHORTEST_ID = 4
_RUNS_HINT = "`sparekey runs` lists them; an id may be cut short to r- and four characters."


def check_run_id(text: str) -> None:
    """Raise BadInputError for what names no run: nothing, or less than "r-" and four characters."""
    if not text.strip():
        raise BadInputError("the id of the run is empty", "`sparekey runs` lists them.")
    if not text.startswith(PREFIX) or len(text) < len(PREFIX) + _SHORTEST_ID:
        raise BadInputError(f"{text!r} is not the id of a run; nothing was changed", _RUNS_HINT)


def check_key(run: str, key: str, steps: Iterable[Step | StepRecord]) -> None:
    """Raise BadInputError where a key is named that the run does not have."""
    if key and not any(step.key == key for step in steps):
        raise BadInputError(f"run {run} has no key {key}", f"`sparekey show {run}` lists its keys.")


def no_such_run(text: str, matches: int) -> BadInputError:
    """The error for an id that no run, or more than one, has."""
    return BadInputError(
        f"{f'{matches} runs match' if matches else 'no run matches'} {text!r}",
        _RUNS_HINT,
    )
