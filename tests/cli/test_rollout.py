"""How the waves of a run are said."""

import pytest

from support.cli_harness import CliHarness


@pytest.mark.parametrize(
    "result",
    [
        ("--healthy-for", "2h"),
        ("--waves", "rest,1"),
        ("--waves", "0"),
        ("--waves", "1", "--healthy-for", "soon"),
    ],
    ids=" ".join,
)
def test_waves_that_make_no_sense_are_refused(sk: CliHarness, result: tuple[str, ...]) -> None:
    sk.make_plan("--user", "web", expect=0)
    assert sk("apply", sk.plan, "--yes", *result).code == 2
    assert sk.inactive == set()
