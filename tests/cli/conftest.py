"""A desk for each test: what one test does to its AWS, no other sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_harness import AwsFrontend, CliHarness, cli_harness, open_frontend


@pytest.fixture(scope="session")
def door() -> Iterator[AwsFrontend]:
    """The address of every desk's AWS."""
    with open_frontend() as made:
        yield made


@pytest.fixture
def sk(tmp_path: Path, capsys: "pytest.CaptureFixture[str]", door: AwsFrontend) -> Iterator[CliHarness]:
    """A desk beside a company of five users, three with spare keys."""
    with cli_harness(tmp_path, capsys, door) as made:
        yield made
