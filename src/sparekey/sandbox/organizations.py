"""Organizations: accounts, units and tags, for the management account and its delegates.

Source: https://docs.aws.amazon.com/organizations/latest/APIReference/
"""

import base64
import binascii
import re
from typing import Any

from sparekey.sandbox.errors import ErrorReplyError
from sparekey.sandbox.request import ApiCall, Handler
from sparekey.sandbox.scenario import OrganizationTable
from sparekey.sandbox.state import SandboxAccount

_PAGE = 20
_STATUSES = {"PENDING_ACTIVATION": None, "CLOSED": "SUSPENDED"}


def _organization(call: ApiCall) -> OrganizationTable:
    organization = call.company.organization
    if organization is None:
        raise ErrorReplyError(
            "AWSOrganizationsNotInUseException", "Your account is not a member of an organization.", 400
        )
    return organization


def _check_manager(call: ApiCall) -> OrganizationTable:
    organization = _organization(call)
    if call.caller.account not in {organization.management, *organization.delegated}:
        raise ErrorReplyError(
            "AccessDeniedException", "You don't have permissions to access this resource.", 400
        )
    return organization


def _page(call: ApiCall, name: str, entries: list[Any]) -> dict[str, Any]:
    """One page; where the scenario says so the first is empty and yet not the last."""
    size = call.params.get("MaxResults", _PAGE)
    if not 1 <= size <= _PAGE:
        raise ErrorReplyError(
            "InvalidInputException", f"You specified a value for MaxResults outside 1 to {_PAGE}.", 400
        )
    size = call.faults.page_size(call, size)
    organization = _organization(call)
    start = -1 if organization.empty_page else 0
    if call.params.get("NextToken"):
        try:
            start = int(base64.urlsafe_b64decode(call.params["NextToken"]))
        except (binascii.Error, ValueError, TypeError):
            raise ErrorReplyError(
                "InvalidInputException", "You provided a pagination token that is invalid.", 400
            ) from None
    following = 0 if start < 0 else start + size
    answer: dict[str, Any] = {name: [] if start < 0 else entries[start:following]}
    if following < len(entries):
        answer["NextToken"] = base64.urlsafe_b64encode(str(following).encode()).decode()
    return answer


def describe_organization(call: ApiCall) -> dict[str, Any]:
    """Any member may ask."""
    organization = _organization(call)
    management = call.company.accounts[organization.management]
    return {
        "Organization": {
            "Id": organization.id,
            "Arn": management.arn(f"organization/{organization.id}", "organizations"),
            "FeatureSet": "ALL",
            "MasterAccountArn": _account_arn(management, organization),
            "MasterAccountId": management.id,
            "MasterAccountEmail": _email(management),
            "AvailablePolicyTypes": [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}],
        }
    }


def list_accounts(call: ApiCall) -> dict[str, Any]:
    """Every account of the organization, whatever its state."""
    organization = _check_manager(call)
    accounts = call.company.accounts.values()
    return _page(call, "Accounts", [_account_element(account, organization) for account in accounts])


def list_accounts_for_parent(call: ApiCall) -> dict[str, Any]:
    """The accounts directly below a root or unit."""
    organization = _check_manager(call)
    unit = _unit(call)
    accounts = [account for account in call.company.accounts.values() if account.unit == unit]
    return _page(call, "Accounts", [_account_element(account, organization) for account in accounts])


def list_roots(call: ApiCall) -> dict[str, Any]:
    """The one root."""
    organization = _check_manager(call)
    management = call.company.accounts[organization.management]
    root = _root_id(call)
    arn = management.arn(f"root/{organization.id}/{root}", "organizations")
    return _page(call, "Roots", [{"Id": root, "Arn": arn, "Name": "Root", "PolicyTypes": []}])


def list_organizational_units_for_parent(call: ApiCall) -> dict[str, Any]:
    """The units directly below a root or unit."""
    organization = _check_manager(call)
    management = call.company.accounts[organization.management]
    units = []
    for path in _is_below(call, _unit(call)):
        id_ = _unit_id(call, path)
        arn = management.arn(f"ou/{organization.id}/{id_}", "organizations")
        units.append({"Id": id_, "Arn": arn, "Name": path.rpartition("/")[2]})
    return _page(call, "OrganizationalUnits", units)


def list_children(call: ApiCall) -> dict[str, Any]:
    """Accounts or units directly below a root or unit."""
    _check_manager(call)
    unit, kind = _unit(call), call.params.get("ChildType")
    if kind == "ACCOUNT":
        ids = [account.id for account in call.company.accounts.values() if account.unit == unit]
    elif kind == "ORGANIZATIONAL_UNIT":
        ids = [_unit_id(call, path) for path in _is_below(call, unit)]
    else:
        raise ErrorReplyError("InvalidInputException", "You provided a ChildType that is none.", 400)
    return _page(call, "Children", [{"Id": id_, "Type": kind} for id_ in ids])


def list_tags_for_resource(call: ApiCall) -> dict[str, Any]:
    """The tags of an account."""
    _check_manager(call)
    account = call.company.accounts.get(str(call.params.get("ResourceId")))
    if account is None:
        raise ErrorReplyError("TargetNotFoundException", "You specified a target that doesn't exist.", 400)
    return _page(call, "Tags", [{"Key": key, "Value": value} for key, value in account.tags.items()])


def _email(account: SandboxAccount) -> str:
    return f"aws+{account.id}@practice.example"


def _account_arn(account: SandboxAccount, organization: OrganizationTable) -> str:
    rest = f"account/{organization.id}/{account.id}"
    return f"arn:{account.partition}:organizations::{organization.management}:{rest}"


def _account_element(account: SandboxAccount, organization: OrganizationTable) -> dict[str, Any]:
    element = {
        "Id": account.id,
        "Arn": _account_arn(account, organization),
        "Email": _email(account),
        "Name": account.name,
        "State": account.status,
        "JoinedMethod": "CREATED",
        "JoinedTimestamp": account.joined,
    }
    # The older Status knows fewer states than State.
    status = _STATUSES.get(account.status, account.status)
    return element | ({"Status": status} if status else {})


def _root_id(call: ApiCall) -> str:
    return f"r-{call.company.derive('root', 'root', 4).lower()}"


def _unit_id(call: ApiCall, path: str) -> str:
    return f"ou-{_root_id(call)[2:]}-{call.company.derive('unit', path, 8).lower()}"


def _units(call: ApiCall) -> list[str]:
    """Every unit's path, those that are only named as part of another's too."""
    paths = {*_organization(call).units, *(account.unit for account in call.company.accounts.values())}
    whole = {path[: match.start()] for path in paths for match in re.finditer(r"/|$", path)}
    return sorted(whole - {""})


def _is_below(call: ApiCall, unit: str) -> list[str]:
    return [path for path in _units(call) if path.rpartition("/")[0] == unit]


def _unit(call: ApiCall) -> str:
    """The path of the parent that is asked about; the root's is empty."""
    parent = call.params.get("ParentId")
    if parent == _root_id(call):
        return ""
    for path in _units(call):
        if _unit_id(call, path) == parent:
            return path
    raise ErrorReplyError("ParentNotFoundException", "You specified a parent that doesn't exist.", 400)


ACTIONS: dict[str, Handler] = {
    "DescribeOrganization": describe_organization,
    "ListAccounts": list_accounts,
    "ListAccountsForParent": list_accounts_for_parent,
    "ListChildren": list_children,
    "ListOrganizationalUnitsForParent": list_organizational_units_for_parent,
    "ListRoots": list_roots,
    "ListTagsForResource": list_tags_for_resource,
}
