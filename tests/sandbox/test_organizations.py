"""Organizations, and the regions of an account."""

from typing import Any

import msgspec

from sparekey.sandbox import Sandbox


def crowd(accounts: int, *, empty_page: bool = False) -> Sandbox:
    """An organization of many accounts."""
    ids = [f"{100000000000 + number}" for number in range(accounts)]
    text = f'[organization]\nmanagement = "{ids[0]}"\nempty_page = {str(empty_page).lower()}\n'
    return Sandbox(text + "".join(f'[[account]]\nid = "{id_}"\n' for id_ in ids))


def test_accounts_are_paged_by_twenty(client: Any, refused: Any) -> None:
    api = client(crowd(45), "organizations")
    pages = [len(page["Accounts"]) for page in api.get_paginator("list_accounts").paginate()]
    assert pages == [20, 20, 5]
    assert refused(api.list_accounts, MaxResults=21)[0] == "InvalidInputException"
    assert refused(api.list_accounts, NextToken="nonsense")[0] == "InvalidInputException"


def test_an_empty_page_may_not_be_the_last(client: Any) -> None:
    api = client(crowd(45, empty_page=True), "organizations")
    pages = [len(page["Accounts"]) for page in api.get_paginator("list_accounts").paginate()]
    assert pages == [0, 20, 20, 5]


def test_accounts_have_a_state_and_mostly_a_status(company: Sandbox, client: Any) -> None:
    company.state.accounts["333344445555"].status = "PENDING_ACTIVATION"
    received = {
        account["Id"]: account for account in client(company, "organizations").list_accounts()["Accounts"]
    }
    assert (received["111122223333"]["State"], received["111122223333"]["Status"]) == ("ACTIVE", "ACTIVE")
    assert (received["444455556666"]["State"], received["444455556666"]["Status"]) == (
        "SUSPENDED",
        "SUSPENDED",
    )
    assert received["333344445555"]["State"] == "PENDING_ACTIVATION"
    assert "Status" not in received["333344445555"]


def test_the_tree_of_units(company: Sandbox, client: Any, refused: Any) -> None:
    api = client(company, "organizations")
    (root,) = api.list_roots()["Roots"]
    (workloads,) = api.list_organizational_units_for_parent(ParentId=root["Id"])["OrganizationalUnits"]
    assert workloads["Name"] == "Workloads"
    units = api.list_organizational_units_for_parent(ParentId=workloads["Id"])["OrganizationalUnits"]
    assert [unit["Name"] for unit in units] == ["Production", "Staging"]
    accounts = api.list_accounts_for_parent(ParentId=units[0]["Id"])["Accounts"]
    assert [account["Id"] for account in accounts] == ["222233334444"]
    children = api.list_children(ParentId=workloads["Id"], ChildType="ORGANIZATIONAL_UNIT")["Children"]
    assert [child["Id"] for child in children] == [unit["Id"] for unit in units]
    children = api.list_children(ParentId=root["Id"], ChildType="ACCOUNT")["Children"]
    assert [child["Id"] for child in children] == ["111122223333", "444455556666"]
    assert refused(api.list_children, ParentId=root["Id"], ChildType="X")[0] == "InvalidInputException"
    assert refused(api.list_accounts_for_parent, ParentId="ou-none")[0] == "ParentNotFoundException"
    tags = api.list_tags_for_resource(ResourceId="222233334444")["Tags"]
    assert tags == [{"Key": "stage", "Value": "production"}]
    assert refused(api.list_tags_for_resource, ResourceId="999999999999")[0] == "TargetNotFoundException"


def test_only_the_management_account_and_its_delegates_may_ask(
    company: Sandbox, client: Any, refused: Any
) -> None:
    member = client(company, "organizations", "load-test", account="333344445555")
    assert member.describe_organization()["Organization"]["MasterAccountId"] == "111122223333"
    assert refused(member.list_accounts)[:2] == ("AccessDeniedException", 400)
    organization = company.state.organization
    assert organization is not None
    company.state.organization = msgspec.structs.replace(organization, delegated=("333344445555",))
    assert member.list_accounts()["Accounts"]
    company.state.organization = None
    assert refused(member.describe_organization)[0] == "AWSOrganizationsNotInUseException"


def test_regions_as_ec2_and_account_list_them(company: Sandbox, client: Any, refused: Any) -> None:
    ec2 = client(company, "ec2")
    assert [region["RegionName"] for region in ec2.describe_regions()["Regions"]] == [
        "us-east-1",
        "eu-central-1",
    ]
    every = ec2.describe_regions(AllRegions=True)["Regions"]
    assert {region["RegionName"]: region["OptInStatus"] for region in every}["me-south-1"] == "not-opted-in"
    account = client(company, "account")
    enabled = account.list_regions(RegionOptStatusContains=["ENABLED", "ENABLED_BY_DEFAULT"])["Regions"]
    assert [region["RegionName"] for region in enabled] == ["us-east-1", "eu-central-1"]
    pages = list(account.get_paginator("list_regions").paginate(MaxResults=1))
    assert [len(page["Regions"]) for page in pages] == [1, 1, 1]
    assert refused(account.list_regions, MaxResults=51)[0] == "ValidationException"
