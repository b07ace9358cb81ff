"""The least permissions that sparekey needs, and roles that have no more."""

from typing import Any

Document = dict[str, Any]

_READS = (
    "cloudtrail:LookupEvents",
    "ec2:DescribeRegions",  # --usage history asks every region that the account has switched on
    "iam:GenerateCredentialReport",
    "iam:GetAccessKeyLastUsed",
    "iam:GetAccountSummary",
    "iam:GetCredentialReport",
    "iam:ListAccessKeys",
    "iam:ListAccountAliases",
    "iam:ListEntitiesForPolicy",  # whom AWS has quarantined for a leaked key
    "iam:ListUsers",
)
_WRITES = ("iam:UpdateAccessKey",)
# What the preflight asks about the caller itself, before anything is written.
_PREFLIGHT = ("iam:GetRole", "iam:SimulatePrincipalPolicy")
_ORGANIZATION = (
    "organizations:ListAccounts",
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
    "organizations:ListTagsForResource",
)
AUDIT_ROLE = "SparekeyAudit"
APPLY_ROLE = "SparekeyApply"


def audit_policy(*, organization: bool = False) -> Document:
    """What reading needs: in one account, or in the account from which an organization is read."""
    own = _allow_statement(
        "ReadOwnRole", ("iam:GetRole",)
    )  # whose keys may have taken a session that was passed in
    if not organization:
        return _policy(_read_statements(), own)
    return _policy(
        _read_statements(),
        own,
        *_assume_role_statement(AUDIT_ROLE),
        _assume_root_statement("IAMAuditRootUserCredentials"),
    )


def apply_policy(*, organization: bool = False) -> Document:
    """What reading, switching keys off and on, and asking the alarms that are probes needs."""
    alarms = _allow_statement(
        "AskAlarms", ("cloudwatch:DescribeAlarms",)
    )  # with the base credentials, so in no role
    return _policy(
        _read_statements(),
        *_write_statements("*"),
        alarms,
        *(_assume_role_statement(APPLY_ROLE) if organization else ()),
    )


def delete_policy(*, organization: bool = False) -> Document:
    """What `sparekey delete` needs: to read a user's keys, to delete them, and a member account's root keys."""
    return _policy(
        _allow_statement("ReadKeys", ("iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:ListUsers")),
        _allow_statement("DeleteKeys", ("iam:DeleteAccessKey",), "arn:*:iam::*:user/*"),
        *(
            (_assume_root_statement("IAMAuditRootUserCredentials", "IAMDeleteRootUserCredentials"),)
            if organization
            else ()
        ),
    )


def stackset_template() -> Document:
    """A CloudFormation template with the two roles of a member account, for a service-managed StackSet.

    Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs.html
    """
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Roles by which sparekey reads IAM access keys (SparekeyAudit) and switches them off"
        " and on (SparekeyApply); neither may do more.",
        "Parameters": {
            "TrustedPrincipal": {
                "Type": "String",
                "Description": "ARN of the account, role or user that sparekey runs as",
                "AllowedPattern": r"^arn:[a-z-]+:iam::\d{12}:.+$",
            },
            "OrganizationId": {
                "Type": "String",
                "Description": "The organization that the principal must belong to",
                "AllowedPattern": "^o-[a-z0-9]{10,32}$",
            },
            "ExternalId": {
                "Type": "String",
                "Description": "Given to sparekey as --external-id",
                "MinLength": 2,
                "MaxLength": 1224,
            },
        },
        "Resources": {
            AUDIT_ROLE: _role(AUDIT_ROLE, [_read_statements()]),
            APPLY_ROLE: _role(APPLY_ROLE, [_read_statements(), *_write_statements("${AWS::AccountId}")]),
        },
        "Outputs": {
            name: {"Description": f"ARN of {name}", "Value": {"Fn::GetAtt": [name, "Arn"]}}
            for name in (AUDIT_ROLE, APPLY_ROLE)
        },
    }


def _policy(*statements: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow_statement(sid: str, actions: tuple[str, ...], resource: Any = "*") -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}


def _read_statements() -> Document:
    # Most of these actions know no resource, and of users nobody can say beforehand which.
    return _allow_statement("ReadKeys", _READS)


def _write_statements(account: str) -> tuple[Document, Document]:
    template = account.startswith("$")
    users = f"arn:{'${AWS::Partition}' if template else '*'}:iam::{account}:user/*"
    return (
        _allow_statement("SwitchKeys", _WRITES, {"Fn::Sub": users} if template else users),
        _allow_statement("CheckOwnPermissions", _PREFLIGHT),
    )


def _assume_role_statement(role: str) -> tuple[Document, Document]:
    return (
        _allow_statement("ListAccounts", _ORGANIZATION),
        _allow_statement("EnterAccounts", ("sts:AssumeRole",), f"arn:*:iam::*:role/{role}"),
    )


def _assume_root_statement(*tasks: str) -> Document:
    """Root access to members for these tasks alone: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_root-user-privileged-task.html"""
    policies = [f"arn:*:iam::aws:policy/root-task/{task}" for task in tasks]
    statement = _allow_statement("EnterAsRoot", ("sts:AssumeRoot",), "arn:*:iam::*:root")
    return {**statement, "Condition": {"StringLike": {"sts:TaskPolicyArn": policies}}}


def _role(name: str, statements: list[Document]) -> Document:
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": {"Ref": "TrustedPrincipal"}},
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringEquals": {
                "sts:ExternalId": {"Ref": "ExternalId"},
                "aws:PrincipalOrgID": {"Ref": "OrganizationId"},
            }
        },
    }
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": name,
            "Description": "Used by sparekey",
            "AssumeRolePolicyDocument": _policy(trust),
            "Policies": [{"PolicyName": name, "PolicyDocument": _policy(*statements)}],
        },
    }
