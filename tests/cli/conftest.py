"""A desk for each test: what one test does to its AWS, no other sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_harness import Desk, Door, desk, opened


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    """The address of every desk's AWS."""
    with opened() as made:
        yield made


@pytest.fixture
def sk(tmp_path: Path, capsys: "pytest.CaptureFixture[str]", door: Door) -> Iterator[Desk]:
    """A desk beside a company of five users, three with spare keys."""
    with desk(tmp_path, capsys, door) as made:
        yield made
