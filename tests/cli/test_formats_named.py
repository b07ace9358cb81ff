"""The help names the formats without importing them."""

import typing

import pytest

from sparekey import report
from sparekey.cli.options import formats_of


@pytest.mark.parametrize("subject", typing.get_args(report.Subject))
def test_the_formats_in_the_help_are_those_that_are_rendered(subject: report.Subject) -> None:
    assert formats_of(subject) == report.formats_of(subject)
    assert formats_of(subject)
