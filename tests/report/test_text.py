"""CSV is opened by Python's reader; what a terminal or a spreadsheet would act on arrives as text."""

import csv
import io
from typing import Any

import pytest

from sparekey import planner
from sparekey.errors import BadInputError
from sparekey.model import Audit, RunRecord
from sparekey.plan import Plan
from sparekey.report import RenderOptions, Subject, render
from support import sample_company as company

SUBJECTS: list[tuple[Subject, Audit | Plan | RunRecord]] = [
    ("audit", company.audit()),
    ("plan", planner.make_plan(company.audit().snapshot, company.POLICY, company.NOW)),
    ("run", company.run()),
]


def rows(subject: Subject, value: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(render(subject, value, "csv")), newline="")))


@pytest.mark.parametrize(("subject", "value"), SUBJECTS)
@pytest.mark.parametrize("name", ["table", "csv"])
def test_no_character_moves_a_cursor(subject: Subject, value: Any, name: str) -> None:
    text = "".join(render(subject, value, name, RenderOptions(show_all=True))).replace("\r\n", "\n")
    assert [char for char in text if not char.isprintable() and char != "\n"] == []


def test_no_cell_is_a_formula() -> None:
    received = rows("audit", company.audit())
    assert {row["user"] for row in received} >= {f"'{company.FORMULA}", "red\\u001b[31m\\u009b2J"}
    for row in received:
        assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_an_audit_has_a_row_for_each_key_and_for_what_has_none() -> None:
    received = rows("audit", company.audit())
    etl = [row for row in received if row["user"] == "etl"]
    assert [row["key"] for row in etl] == [f"AKIADEMO{number:012d}" for number in (7, 8, 9)]
    assert {row["active_keys"] for row in etl} == {"3"}
    (denied,) = [row for row in received if row["user"] == "no-entry"]
    assert (denied["status"], denied["active_keys"], denied["key"]) == ("UNREADABLE", "", "")
    shut = [row for row in received if row["account"] == company.SHUT]
    assert {row["status"] for row in shut} == {"UNREADABLE"}


def test_a_run_has_a_row_for_each_step() -> None:
    received = rows("run", company.run())
    assert [row["state"] for row in received] == ["watching", "settled", "rolled_back", "held", "failed"]
    assert received[1]["request_ids"] == "1d2e-bb 1d2e-cc"
    assert received[0]["after"] == "AKIADEMO000000000003 Active, AKIADEMO000000000004 Inactive"
    assert {row["ledger_head"] for row in received} == {"ab12" * 16}


def test_a_run_as_table_has_its_proof() -> None:
    text = "".join(render("run", company.run(), "table", RenderOptions(width=160)))
    assert text.startswith("Run 20260301-1204-7f3a: watching\n")
    for fact in ("requests: 1d2e-bb, 1d2e-cc", "head " + "ab12" * 16, "To release: move it to the new key"):
        assert fact in text


def test_a_format_that_is_not_offered_is_named_with_those_that_are() -> None:
    with pytest.raises(BadInputError) as caught:
        list(render("plan", SUBJECTS[1][1], "asff"))
    assert caught.value.hint == "Formats: csv, json, jsonl, table."
    with pytest.raises(BadInputError) as caught:
        list(render("audit", company.audit(), "pdf"))
    assert caught.value.hint == "Formats: asff, csv, html, json, jsonl, ocsf, table."
