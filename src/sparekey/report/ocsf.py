"""OCSF Compliance Findings: https://schema.ocsf.io/classes/compliance_finding.

The models are py-ocsf-models' (an extra); a finding that they refuse cannot leave.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from sparekey import __version__
from sparekey.errors import BadInputError
from sparekey.model import Account, Audit, FindingStatus, User
from sparekey.report import Look
from sparekey.report._finding_records import Point, generator, points

NAME = "ocsf"
# The numbers are the schema's. https://schema.ocsf.io/objects/compliance says of 2 (Warning): "did not yield
# a result due to missing information".
_COMPLIANCE: Mapping[FindingStatus, int] = {"PASS": 1, "UNREADABLE": 2, "FAIL": 3, "EXEMPT": 99}
_SEVERITIES = ("Unknown", "Informational", "Low", "Medium", "High", "Critical")
_WORKS = ("Unknown", "New", "In Progress", "Suppressed", "Resolved")
_WORK: Mapping[FindingStatus, str] = {
    "PASS": "Resolved",
    "FAIL": "New",
    "EXEMPT": "Suppressed",
    "UNREADABLE": "New",
}


def audit(audit: Audit, look: Look) -> Iterator[str]:
    """A JSON array of Compliance Findings, one a line; with `show_all` those that pass, too."""
    separator = "[\n"
    for point in points(audit, passes=look.show_all):
        told: str = finding(point, audit).model_dump_json(exclude_none=True)
        yield separator + told
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def finding(point: Point, audit: Audit) -> Any:
    """One point as py-ocsf-models' `ComplianceFinding`; raises BadInputError without the extra."""
    bad = point.status in ("FAIL", "UNREADABLE")
    severity = point.rule.severity.capitalize() if bad else "Informational"
    work = _WORK[point.status]
    told = {
        "activity_id": 1,
        "activity_name": "Create",
        "type_uid": 200301,
        "type_name": "Compliance Finding: Create",
        "class_name": "Compliance Finding",
        "time": _milliseconds(audit),
        "time_dt": audit.snapshot.generated,
        "message": f"{point.title}: {point.message or point.status}",
        "severity_id": _SEVERITIES.index(severity),
        "severity": severity,
        "status_id": _WORKS.index(work),
        "status": work,
        "status_code": point.status,
        "status_detail": point.message or None,
        "compliance": _compliance(point, audit),
        "finding_info": _info(point, audit),
        "resources": [_resource(point.account, point.user)],
        "metadata": _metadata(point),
        "cloud": _cloud(point.account),
    }
    return _model().model_validate(told)


@cache
def _model() -> Any:
    """The library's class with the object that the cloud profile requires and the library leaves out."""
    try:
        from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding  # noqa: PLC0415
        from py_ocsf_models.objects.cloud import Cloud  # noqa: PLC0415
        from pydantic import create_model  # noqa: PLC0415  # comes with py-ocsf-models
    except ImportError as error:
        raise BadInputError(
            "OCSF needs the package py-ocsf-models", "Install it: pip install 'sparekey[ocsf]'"
        ) from error
    return create_model("CloudComplianceFinding", __base__=ComplianceFinding, cloud=(Cloud, ...))


def _milliseconds(audit: Audit) -> int:
    return int(audit.snapshot.generated.timestamp() * 1000)


def _compliance(point: Point, audit: Audit) -> dict[str, Any]:
    controls = point.controls(audit.cis)
    return {
        "standards": [f"CIS AWS Foundations Benchmark v{version}" for version, _ in controls],
        "requirements": [number for _, number in controls],
        "control": point.rule.id,
        "desc": point.rule.title,
        "status_id": _COMPLIANCE[point.status],
    }


def _info(point: Point, audit: Audit) -> dict[str, Any]:
    return {
        "uid": point.uid,
        "title": point.title,
        "desc": point.message or point.rule.title,
        "types": [generator(point.rule.id)],
        "last_seen_time": _milliseconds(audit),
        "last_seen_time_dt": audit.snapshot.generated,
    }


def _resource(account: Account, user: User | None) -> dict[str, Any]:
    if user is None:
        whom = {"uid": account.id, "name": account.alias or account.id, "type": "AwsAccount"}
    else:
        whom = {"uid": user.arn, "name": user.name, "type": "AwsIamUser"}
    return {**whom, "cloud_partition": account.partition, "group": {"name": "iam"}}


def _metadata(point: Point) -> dict[str, Any]:
    product = {"name": "sparekey", "uid": "sparekey", "vendor_name": "sparekey", "version": __version__}
    return {"product": product, "event_code": point.rule.id, "profiles": ["cloud", "datetime"]}


def _cloud(account: Account) -> dict[str, Any]:
    told = {"uid": account.id, "name": account.alias or account.id, "type": "AWS Account", "type_id": 10}
    return {"provider": "AWS", "account": told}
