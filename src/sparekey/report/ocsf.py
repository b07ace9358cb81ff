"""OCSF Compliance Findings: https://schema.ocsf.io/classes/compliance_finding.

The models are py-ocsf-models' (an extra); a finding that they refuse cannot leave.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from sparekey import __version__
from sparekey.errors import BadInputError
from sparekey.model import Account, Audit, FindingStatus, User
from sparekey.report._finding_records import FindingRecord, finding_records, generator
from sparekey.report.interface import RenderOptions

NAME = "ocsf"
# The numbers are the schema's. https://schema.ocsf.io/objects/compliance says of 2 (Warning): "did not yield
# a result due to missing information".
_COMPLIANCE: Mapping[FindingStatus, int] = {"PASS": 1, "UNREADABLE": 2, "FAIL": 3, "EXEMPT": 99}
_SEVERITIES = ("Unknown", "Informational", "Low", "Medium", "High", "Critical")
_WORK_STATUS = ("Unknown", "New", "In Progress", "Suppressed", "Resolved")
_WORK_ITEM: Mapping[FindingStatus, str] = {
    "PASS": "Resolved",
    "FAIL": "New",
    "EXEMPT": "Suppressed",
    "UNREADABLE": "New",
}


def audit(audit: Audit, options: RenderOptions) -> Iterator[str]:
    """A JSON array of Compliance Findings, one a line; with `show_all` those that pass, too."""
    separator = "[\n"
    for record in finding_records(audit, passes=options.show_all):
        text: str = finding(record, audit).model_dump_json(exclude_none=True)
        yield separator + text
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def finding(record: FindingRecord, audit: Audit) -> Any:
    """One point as py-ocsf-models' `ComplianceFinding`; raises BadInputError without the extra."""
    bad = record.status in ("FAIL", "UNREADABLE")
    severity = record.rule.severity.capitalize() if bad else "Informational"
    work = _WORK_ITEM[record.status]
    values = {
        "activity_id": 1,
        "activity_name": "Create",
        "type_uid": 200301,
        "type_name": "Compliance Finding: Create",
        "class_name": "Compliance Finding",
        "time": _milliseconds(audit),
        "time_dt": audit.snapshot.generated,
        "message": f"{record.title}: {record.message or record.status}",
        "severity_id": _SEVERITIES.index(severity),
        "severity": severity,
        "status_id": _WORK_STATUS.index(work),
        "status": work,
        "status_code": record.status,
        "status_detail": record.message or None,
        "compliance": _compliance(record, audit),
        "finding_info": _info(record, audit),
        "resources": [_resource(record.account, record.user)],
        "metadata": _metadata(record),
        "cloud": _cloud(record.account),
    }
    return _model().model_validate(values)


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


def _compliance(record: FindingRecord, audit: Audit) -> dict[str, Any]:
    controls = record.controls(audit.cis)
    return {
        "standards": [f"CIS AWS Foundations Benchmark v{version}" for version, _ in controls],
        "requirements": [number for _, number in controls],
        "control": record.rule.id,
        "desc": record.rule.title,
        "status_id": _COMPLIANCE[record.status],
    }


def _info(record: FindingRecord, audit: Audit) -> dict[str, Any]:
    return {
        "uid": record.uid,
        "title": record.title,
        "desc": record.message or record.rule.title,
        "types": [generator(record.rule.id)],
        "last_seen_time": _milliseconds(audit),
        "last_seen_time_dt": audit.snapshot.generated,
    }


def _resource(account: Account, user: User | None) -> dict[str, Any]:
    if user is None:
        whom = {"uid": account.id, "name": account.alias or account.id, "type": "AwsAccount"}
    else:
        whom = {"uid": user.arn, "name": user.name, "type": "AwsIamUser"}
    return {**whom, "cloud_partition": account.partition, "group": {"name": "iam"}}


def _metadata(record: FindingRecord) -> dict[str, Any]:
    product = {"name": "sparekey", "uid": "sparekey", "vendor_name": "sparekey", "version": __version__}
    return {"product": product, "event_code": record.rule.id, "profiles": ["cloud", "datetime"]}


def _cloud(account: Account) -> dict[str, Any]:
    cloud = {"uid": account.id, "name": account.alias or account.id, "type": "AWS Account", "type_id": 10}
    return {"provider": "AWS", "account": cloud}
