"""OCSF Compliance Findings, read back by the library's own models."""

import builtins
import json
from typing import Any

import pytest
from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding
from py_ocsf_models.objects.cloud import Cloud

from sparekey.errors import BadInputError
from sparekey.report import RenderOptions, ocsf, render
from support import sample_company as company


def findings(*, show_all: bool = False) -> dict[str, dict[str, Any]]:
    received = json.loads("".join(render("audit", company.audit(), "ocsf", RenderOptions(show_all=show_all))))
    return {entry["finding_info"]["uid"]: entry for entry in received}


def test_every_finding_is_one_to_the_library() -> None:
    received = findings()
    assert len(received) > 30
    for entry in received.values():
        read = ComplianceFinding.model_validate(entry)
        assert read.type_uid == read.class_uid * 100 + read.activity_id
        assert Cloud.model_validate(entry["cloud"]).account is not None
        assert read.time == int(company.NOW.timestamp() * 1000)
        # the model says nothing of fields that it does not know: none may be among ours
        known = json.loads(read.model_dump_json(exclude_none=True))
        assert {**known, "cloud": entry["cloud"]} == entry


@pytest.mark.parametrize(
    ("uid", "check", "work", "severity"),
    [
        (f"sparekey/two-active-keys/{company.PROD}/user/etl", 3, "New", "Medium"),
        (
            f"sparekey/two-active-keys/{company.PROD}/user/vault-root",
            99,
            "Suppressed",
            "Informational",
        ),
        (f"sparekey/two-active-keys/{company.PROD}/user/svc-01", 1, "Resolved", "Informational"),
        (f"sparekey/two-active-keys/{company.DEV}/user/no-entry", 2, "New", "Medium"),
        (f"sparekey/root-key/{company.DEV}/account", 3, "New", "Critical"),
        (f"sparekey/two-active-keys/{company.SHUT}/account", 2, "New", "Medium"),
    ],
)
def test_what_a_status_becomes(uid: str, check: int, work: str, severity: str) -> None:
    received = findings(show_all=True)[uid]
    assert (received["compliance"]["status_id"], received["status"], received["severity"]) == (
        check,
        work,
        severity,
    )


def test_the_control_is_named_as_the_benchmark_numbers_it() -> None:
    received = findings()[f"sparekey/two-active-keys/{company.PROD}/user/etl"]["compliance"]
    assert (received["standards"], received["requirements"]) == (
        ["CIS AWS Foundations Benchmark v4.0"],
        ["1.13"],
    )


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("py_ocsf_models"):
            raise ImportError(name)
        return real(name, *rest, **more)

    ocsf._model.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInputError) as caught:
        list(ocsf.audit(company.audit(), RenderOptions()))
    assert "sparekey[ocsf]" in caught.value.hint
