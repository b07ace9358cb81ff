"""Every format, and what foreign names may do in it."""

import unicodedata

import msgspec
import pytest

from sparekey import report
from support import sample_company as company


@pytest.mark.parametrize("name", sorted(report.registry()))
def test_no_format_passes_on_what_a_terminal_acts_on(name: str) -> None:
    hostile = "\x9b31m\u202eevil\u2066\u200bzero\U000e0041"
    audit = company.audit()
    account = next(found for found in audit.accounts if found.users)
    verdict = msgspec.structs.replace(
        account.users[0], user=msgspec.structs.replace(account.users[0].user, name=hostile)
    )
    named = msgspec.structs.replace(
        account,
        account=msgspec.structs.replace(account.account, alias=hostile),
        users=(verdict, *account.users[1:]),
    )
    text = "".join(report.render("audit", msgspec.structs.replace(audit, accounts=(named,)), name))
    assert "evil" in text
    assert not [char for char in text if unicodedata.category(char) == "Cf" or "\x7f" <= char <= "\x9f"]
