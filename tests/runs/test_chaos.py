"""Over a bad line a run ends as it does when it is left alone; `make bench-chaos` plays more seeds."""

from collections.abc import Iterator

import pytest

from support.chaos import KINDS, ChaosLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosLab]:
    with ChaosLab(tmp_path_factory.mktemp("chaos")) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("tens", range(5))
def test_seeds(lab: ChaosLab, tens: int) -> None:
    for seed in range(tens * 10, tens * 10 + 10):
        lab.play(seed)


@pytest.mark.slow
def test_every_fault_strikes_and_a_seed_plays_alike_each_time(lab: ChaosLab) -> None:
    first = lab.play(13)
    faults = [*first.faults, *lab.play(1).faults, *lab.play(2).faults]
    assert lab.play(13) == first
    assert {fate.kind for _, fate in faults} == {"fine", *KINDS}
    assert {action for action, _ in faults} >= {"AssumeRole", "GetAccessKeyLastUsed"}
