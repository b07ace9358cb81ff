"""Behind a bad line a run ends as it does when it is left alone; `make bench-chaos` plays more seeds."""

import pytest

from run.chaos import play


@pytest.mark.parametrize("tens", range(5))
def test_seeds(tens: int) -> None:
    for seed in range(tens * 10, tens * 10 + 10):
        play(seed)
