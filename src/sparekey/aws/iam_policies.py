"""The least permissions that sparekey needs, and roles that have no more."""

from collections.abc import Iterable, Iterator
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
_SECRETS = (
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecretVersionStage",
)
_PARAMETERS = ("ssm:DeleteParameter", "ssm:GetParameter", "ssm:PutParameter")
AUDIT_ROLE = "SparekeyAudit"
ROTATE_ROLE = "SparekeyRotate"
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


def rotate_policy(places: Iterable[str] = (), *, organization: bool = False) -> Document:
    """What rotating needs: what applying does, to create keys, and to write to the stores at these places.

    A secret's ARN ends in six characters that AWS adds.
    """
    return _policy(
        _read_statements(),
        *_write_statements("*"),
        *_create_statements("*"),
        *_store_statements(places),
        *(_assume_role_statement(ROTATE_ROLE) if organization else ()),
    )


def _create_statements(account: str) -> tuple[Document]:
    template = account.startswith("$")
    users = f"arn:{'${AWS::Partition}' if template else '*'}:iam::{account}:user/*"
    resource = {"Fn::Sub": users} if template else users
    return (_allow_statement("CreateKeys", ("iam:CreateAccessKey",), resource),)


def _store_statements(places: Iterable[str]) -> Iterator[Document]:
    secrets, parameters = [], []
    for place in sorted(set(places)):
        kind, _, name = place.partition(":")
        if kind == "secretsmanager":
            secrets.append(
                name if name.startswith("arn:") else f"arn:*:secretsmanager:*:*:secret:{name}-??????"
            )
        elif kind == "ssm":
            path = f"arn:*:ssm:*:*:parameter/{name.removeprefix('/')}"
            parameters += [path, f"{path}.sparekey-pending"]
    if secrets:
        yield _allow_statement("WriteSecrets", _SECRETS, secrets)
    if parameters:
        yield _allow_statement("WriteParameters", _PARAMETERS, parameters)
        # This action knows no resource; it shows no values.
        yield _allow_statement("FindParameters", ("ssm:DescribeParameters",))


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
    """A CloudFormation template with the roles of a member account, for a service-managed StackSet.

    Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs.html
    """
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Roles by which sparekey reads IAM access keys (SparekeyAudit), switches them off and on"
        " (SparekeyApply), and creates and hands them over (SparekeyRotate); none may do more.",
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
            "SecretPrefix": {
                "Type": "String",
                "Description": "Names of the secrets and parameters that SparekeyRotate may write begin so",
                "Default": "sparekey/",
                "AllowedPattern": "^[A-Za-z0-9/_+=.@-]{1,100}$",
            },
        },
        "Resources": {
            AUDIT_ROLE: _role(AUDIT_ROLE, [_read_statements()]),
            APPLY_ROLE: _role(APPLY_ROLE, [_read_statements(), *_write_statements("${AWS::AccountId}")]),
            ROTATE_ROLE: _role(
                ROTATE_ROLE,
                [
                    _read_statements(),
                    *_write_statements("${AWS::AccountId}"),
                    *_create_statements("${AWS::AccountId}"),
                    *_prefixed_store_statements(),
                ],
            ),
        },
        "Outputs": {
            name: {"Description": f"ARN of {name}", "Value": {"Fn::GetAtt": [name, "Arn"]}}
            for name in (AUDIT_ROLE, APPLY_ROLE, ROTATE_ROLE)
        },
    }


def _prefixed_store_statements() -> tuple[Document, ...]:
    secrets = "arn:${AWS::Partition}:secretsmanager:*:${AWS::AccountId}:secret:${SecretPrefix}*"
    parameters = "arn:${AWS::Partition}:ssm:*:${AWS::AccountId}:parameter/${SecretPrefix}*"
    return (
        _allow_statement("WriteSecrets", _SECRETS, {"Fn::Sub": secrets}),
        _allow_statement("WriteParameters", _PARAMETERS, {"Fn::Sub": parameters}),
        _allow_statement("FindParameters", ("ssm:DescribeParameters",)),
    )


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
