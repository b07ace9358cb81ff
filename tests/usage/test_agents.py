"""User agents: two calls of one application have one name, two applications have two."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.usage.agents import UNKNOWN, agent_family

SAME = {
    "Boto3": [
        "Boto3/1.26.165 Python/3.10.6 Linux/5.19.0-46-generic Botocore/1.29.165",
        "[Boto3/1.26.165 Python/3.10.6 Linux/5.19.0-46-generic Botocore/1.29.165]",
        "Boto3/1.34.51 md/Botocore#1.34.51 ua/2.0 os/linux#6.1 lang/python#3.12.2 cfg/retry-mode#legacy",
        "Boto3/1.34.51 md/Botocore#1.34.51 ua/2.1 m/E,b os/linux#6.1 exec-env/AWS_ECS Botocore/1 Resource",
    ],
    "Boto3 app/billing-export": ["Boto3/1.34.51 md/Botocore#1.34.51 app/billing-export Botocore/1.34.51"],
    "Botocore": ["Botocore/1.29.165 Python/3.9"],
    "aws-cli": [
        "aws-cli/1.22.34 Python/3.10.6 Linux/5.19.0-46-generic botocore/1.23.34",
        "aws-cli/2.9.1 Python/3.9.11 Linux/5.15 exe/x86_64.ubuntu.22 prompt/off command/s3.ls",
        "aws-cli/2.15.30 md/awscrt#0.19.19 ua/2.0 os/linux#5.15 md/arch#x86_64 md/command#s3.cp",
    ],
    "aws-sdk-go": [
        "aws-sdk-go/1.44.157 (go1.19.3; linux; amd64)",
        "aws-sdk-go/1.44.157 (go1.19.3; linux; amd64) S3Manager",
        "aws-sdk-go-v2/1.17.0 os/linux lang/go/1.18.10 md/GOOS/linux md/GOARCH/amd64 api/sts/1.16.19",
    ],
    "aws-sdk-go amazon-ssm-agent": ["aws-sdk-go/1.41.4 (go1.18.3; linux; amd64) amazon-ssm-agent/"],
    "aws-sdk-java": ["aws-sdk-java/2.20.1 Linux/5.4 OpenJDK_64-Bit_Server_VM/17 vendor/Amazon.com_Inc."],
    "aws-sdk-js": [
        "aws-sdk-js/3.350.0 os/linux/5.10 lang/js md/nodejs/18.12 api/s3/3.350.0",
        "aws-sdk-nodejs/2.1.0 linux/v14 promise",
    ],
    "aws-sdk-rust": ["aws-sdk-rust/1.1.0 os/linux lang/rust/1.75.0 api/s3"],
    "aws-sdk-php": ["aws-sdk-php/3.281.5 OS/Linux/5.4 lang/php/8.1 GuzzleHttp/7"],
    "aws-sdk-ruby": ["aws-sdk-ruby3/3.171.0 ruby/3.1.2 x86_64-linux aws-sdk-s3/1.119"],
    "aws-sdk-dotnet": [
        "aws-sdk-dotnet-coreclr/3.7.0 aws-sdk-dotnet-core/3.7 .NET_Core/6.0 OS/Linux ClientSync",
        "aws-sdk-net/4.0 ua/2.1",
    ],
    "aws-sdk-cpp": ["aws-sdk-cpp/1.9 ua/2.0 md/aws-crt# os/Linux/5 md/arch#x86_64"],
    "Terraform": [
        "APN/1.0 HashiCorp/1.0 Terraform/1.1.2 (+https://www.terraform.io) aws-sdk-go/1.44 (go1.19)",
        "HashiCorp Terraform/1.5.0 terraform-provider-aws/5.0 aws-sdk-go-v2/1.18.0 api/iam/1.19.12",
    ],
    "OpenTofu": ["APN/1.0 HashiCorp/1.0 OpenTofu/1.6 terraform-provider-aws/5.0"],
    "AWS console": [
        "[S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.488 Linux/5.4 cfg/retry-mode/standard]",
        "RDS Console, aws-internal/3 aws-sdk-java/1.11.975 Linux/5.10 vendor/Oracle_Corporation",
        "console.amazonaws.com",
    ],
    "browser": ["Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:102.0) Gecko/20100101 Firefox/102.0"],
    "AWS Internal": ["AWS Internal", "aws-internal/3 aws-sdk-java/1.12"],
    "secretsmanager.amazonaws.com": ["secretsmanager.amazonaws.com"],
    "Hadoop": ["Hadoop 3.3.4, aws-sdk-java/1.12.262 Linux/5.10 OpenJDK/25 java/1.8 kotlin/1.3 scala/2.12"],
    "MinIO minio-go mc": ["MinIO (linux; amd64) minio-go/v7.0.5 mc/RELEASE.2021"],
    "rclone": ["rclone/v1.62.2", "rclone/v1.63"],
    "stratus-red-team": [
        "stratus-red-team_39f95f43-cd2f-4beb-b69e-be60b6fe1f57",
        "stratus-red-team_561fe49b-e6b4-44da-a587-f2c718eb578a",
    ],
    "my nightly job": ["my nightly job 8f3a2c9d1e", "my nightly job 0011223344", "my nightly job 42"],
    UNKNOWN: ["", "   ", "[]"],
}


@pytest.mark.parametrize(
    ("name", "agent"), [(name, agent) for name, agents in SAME.items() for agent in agents]
)
def test_family(name: str, agent: str) -> None:
    assert agent_family(agent) == name


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=3000) | st.lists(st.text("ab1-/.#", max_size=90), max_size=30).map(" ".join))
def test_a_family_is_short_printable_and_never_empty(agent: str) -> None:
    name = agent_family(agent)
    assert name.strip()
    assert len(name) <= 1024
    assert name.isprintable()
    name.encode()
