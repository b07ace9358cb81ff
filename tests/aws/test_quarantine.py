"""Whom AWS has quarantined, and whose a key is, in front of the sandbox."""

import pytest

from sparekey.aws.errors import DeniedError
from sparekey.model import Quarantined
from sparekey.sandbox.scenario import Deny, ShortPages
from support.sandbox_gateway import SandboxGateway
from support.scripted_aws import ScriptedAws, failure, ok, own_account, page

SCENARIO = """
[[account]]
id = "111122223333"
[[account.user]]
name = "ann"
policies = ["AWSCompromisedKeyQuarantineV3", "AWSCompromisedKeyQuarantine"]
key = [{ age = "50d" }]
[[account.user]]
name = "bob"
policies = ["AWSCompromisedKeyQuarantineV3"]
[[account.user]]
name = "cleo"
"""


def account() -> SandboxGateway:
    return SandboxGateway(SCENARIO)


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-eusc"])
def test_the_policies_are_those_of_the_partition(partition: str) -> None:
    nobody = ok("ListEntitiesForPolicy", page("PolicyUsers", ""))
    aws = ScriptedAws(ListEntitiesForPolicy=[failure("NoSuchEntity", 404), nobody, nobody])
    own = own_account(aws)
    own.partition = partition
    assert own.quarantined_users() == ()
    name = f"arn:{partition}:iam::aws:policy/AWSCompromisedKeyQuarantine"
    asked = [one["PolicyArn"] for one in aws.call_names if one["Action"] == "ListEntitiesForPolicy"]
    assert asked == [name, f"{name}V2", f"{name}V3"]


def test_the_three_policies_are_asked_for_and_all_pages_read() -> None:
    aws = account()
    aws.sandbox.state.faults.append(ShortPages(action="iam:ListEntitiesForPolicy", size=1))
    users = aws.sandbox.state.accounts["111122223333"].users
    assert aws.gateway.own_account().quarantined_users() == (
        Quarantined("ann", users["ann"].id, "AWSCompromisedKeyQuarantine"),
        Quarantined("ann", users["ann"].id, "AWSCompromisedKeyQuarantineV3"),
        Quarantined("bob", users["bob"].id, "AWSCompromisedKeyQuarantineV3"),
    )
    assert [action for _, _, action in aws.calls].count("ListEntitiesForPolicy") == 4


def test_a_refusal_is_an_error() -> None:
    aws = account()
    aws.sandbox.state.faults.append(Deny(action="iam:ListEntitiesForPolicy"))
    with pytest.raises(DeniedError):
        aws.gateway.own_account().quarantined_users()


def test_a_key_belongs_to_its_user_whatever_the_user_is_called() -> None:
    aws = account()
    key = aws.sandbox.key("ann")
    own = aws.gateway.own_account()
    assert own.owner_of(key.id) == "ann"
    (user,) = [user for user in own.list_users() if user.name == "ann"]
    aws.sandbox.state.accounts["111122223333"].users["ann"].rename("anna", "/", aws.sandbox.clock.now())
    assert own.owner_of(key.id) == "anna"
    assert user.id.startswith("AIDA")
    key.deleted = aws.sandbox.clock.now()
    with pytest.raises(DeniedError):
        own.owner_of(key.id)
