"""A desk for each test: what one test does to its AWS, no other sees."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.desk import Desk, desk


@pytest.fixture
def sk(tmp_path: Path, capsys: "pytest.CaptureFixture[str]") -> Iterator[Desk]:
    """A desk beside a company of five users, three with spare keys."""
    with desk(tmp_path, capsys) as made:
        yield made
