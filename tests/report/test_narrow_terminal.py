"""What a terminal of 80 columns shows of an audit."""

from sparekey.report import RenderOptions, render
from support import sample_company


def test_no_access_key_is_broken_over_two_lines() -> None:
    audit = sample_company.audit()
    text = "".join(render("audit", audit, "table", RenderOptions(width=80)))
    keys = [
        key.id
        for account in audit.accounts
        for verdict in account.users
        if verdict.status == "FAIL" and isinstance(verdict.user.keys, tuple)
        for key in verdict.user.keys
        if key.id
    ]
    assert len(keys) > 4
    assert [key for key in keys if key not in text] == []
