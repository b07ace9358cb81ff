"""IAM's name of a service and CloudTrail's are one service's, for every service that botocore knows."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.test_cutover import BASE, KEPT, OLD, ago, app, usage, use
from sparekey.cutover import ConsumersMoved, ConsumersNotMoved
from sparekey.model import LastUsed
from sparekey.service_names import is_known, same_service

_TOOL = Path(__file__).parents[2] / "tools" / "generate_service_names.py"


def test_the_table_is_what_botocore_knows() -> None:
    """Where it is not, run tools/generate_service_names.py: a newer botocore has more services."""
    spec = importlib.util.spec_from_file_location("generate_service_names", _TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    services = tool.services()
    assert len(services) > 300
    for service in services:
        first, *others = tool.names_of(service)
        assert is_known(first), service
        for other in others:
            assert same_service(first, other), service
            assert same_service(other, first), service


@pytest.mark.parametrize(
    ("iam", "trail"),
    [
        ("monitoring", "monitoring"),
        ("cloudwatch", "monitoring"),
        ("tag", "tagging"),
        ("execute-api", "execute-api"),
        ("elasticloadbalancing", "elasticloadbalancing"),
        ("states", "states"),
        ("logs", "logs"),
        ("ses", "ses"),
        ("email", "ses"),
        ("mobiletargeting", "mobiletargeting"),
        ("pinpoint", "mobiletargeting"),
        ("aps", "aps"),
        ("es", "es"),
        ("elasticfilesystem", "elasticfilesystem"),
        ("elasticmapreduce", "elasticmapreduce"),
        ("IoTSecuredTunneling", "iotsecuredtunneling"),
        ("ecr", "ecr"),
        ("api.ecr", "ecr"),
        ("mq", "amazonmq"),
        ("application-autoscaling", "autoscaling"),
        ("s3", "s3"),
        ("a-service-of-tomorrow", "a-service-of-tomorrow"),
    ],
)
def test_a_namespace_and_its_event_source(iam: str, trail: str) -> None:
    assert same_service(iam, trail)
    assert same_service(trail, iam)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3", "sqs"),
        ("monitoring", "logs"),
        ("ec2", "ec2messages"),
        ("sts", "sso"),
        ("warp", "s3"),
        ("", "s3"),
    ],
)
def test_other_services_are_others(one: str, other: str) -> None:
    assert not same_service(one, other)


def moved(last: LastUsed, service: str, region: str) -> ConsumersMoved | ConsumersNotMoved:

    old = usage(OLD, app(use(60, 10, service=service, region=region)))
    kept = usage(KEPT, app(use(9.9, 0.1, service=service, region=region)))
    return replace(BASE, last=last, old=old, kept=kept).verdict()


@pytest.mark.parametrize(
    ("service", "region", "trail", "where"),
    [
        ("iam", None, "iam", "us-east-1"),
        ("iam", "us-east-1", "iam", "us-east-1"),
        ("iam", None, "iam", "us-gov-west-1"),
        ("s3", None, "s3", "eu-central-1"),
        ("route53", None, "route53", "us-east-1"),
        ("cloudwatch", "eu-west-1", "monitoring", "eu-west-1"),
    ],
)
def test_a_last_use_without_a_region_is_found_in_any(
    service: str, region: str | None, trail: str, where: str
) -> None:
    assert isinstance(moved(LastUsed("used", ago(10), service, region), trail, where), ConsumersMoved)


def test_a_service_that_nobody_knows_stays_blind_and_the_text_says_why() -> None:
    verdict = moved(LastUsed("used", ago(10), "warp", None), "warpdrive", "us-east-1")
    assert isinstance(verdict, ConsumersNotMoved)
    assert verdict.reason == "source-blind"
    assert "last used for warp at" in verdict.why
    assert "a name that sparekey does not know" in verdict.why
    unnamed = moved(LastUsed("used", ago(10), None, None), "s3", "us-east-1")
    assert isinstance(unnamed, ConsumersNotMoved)
    assert unnamed.reason == "source-blind"
    assert "an unknown service" in unnamed.why
