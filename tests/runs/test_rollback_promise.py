"""No key of ours stays off beside an unhealthy probe for long, whatever happens to workers, clocks and accounts."""

import pytest

from support.watch_simulation import WatchSimulation


@pytest.mark.parametrize("seed", range(6))
def test_no_key_stays_off_beside_an_unhealthy_probe(seed: int) -> None:
    world = WatchSimulation(seed)
    worst = world.play(seconds=400, faults=14)
    assert worst > 0  # an application broke, and came back
    assert world.ledger.verify(world.run).broken == ()
    world.ledger.close()
