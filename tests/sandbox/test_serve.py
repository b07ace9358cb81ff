"""The sandbox over a socket: for boto3, for the AWS CLI, for a person at a terminal."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox.conftest import SESSION
from sparekey.sandbox import Sandbox, SandboxError, serve
from sparekey.sandbox.scenario import Latency

CLI = Path(sys.executable).with_name("aws")


@pytest.fixture(scope="module", name="served")
def _served() -> Any:
    with Sandbox() as sandbox:
        yield sandbox


def over_socket(sandbox: Sandbox, service: str) -> Any:
    """A plain client of a served sandbox."""
    env = sandbox.env()
    return SESSION.create_client(
        service,
        region_name="eu-central-1",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def test_clients_of_any_region_are_served(served: Sandbox) -> None:
    iam = over_socket(served, "iam")
    pages = iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 5})
    assert sum(len(page["Users"]) for page in pages) == 13
    assert (
        over_socket(served, "organizations").describe_organization()["Organization"]["Id"] == "o-practice01"
    )
    assert over_socket(served, "cloudtrail").lookup_events(MaxResults=1)["Events"]
    assert served.state.calls[0].action == "iam:ListUsers"


def test_an_application_uses_its_key(served: Sandbox) -> None:
    s3 = over_socket(served, "s3")
    for name in ("a b/ü+.txt", "plain", "x=1&y~2"):
        s3.put_object(Bucket="box", Key=name, Body=name.encode())
        assert s3.get_object(Bucket="box", Key=name)["Body"].read() == name.encode()
        assert s3.head_object(Bucket="box", Key=name)["ContentLength"] == len(name.encode())
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="box", PaginationConfig={"PageSize": 2})
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == [
        "a b/ü+.txt",
        "plain",
        "x=1&y~2",
    ]
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["box"]
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="box", Key="gone")
    sqs, queue = over_socket(served, "sqs"), {"QueueUrl": f"{served.url}/queue"}
    sqs.send_message(**queue, MessageBody="hello")
    (message,) = sqs.receive_message(**queue)["Messages"]
    sqs.delete_message(**queue, ReceiptHandle=message["ReceiptHandle"])
    assert message["Body"] == "hello"
    assert "Messages" not in sqs.receive_message(**queue)


def test_a_long_body_comes_in_pieces(served: Sandbox) -> None:
    s3, body = over_socket(served, "s3"), os.urandom(1_000_000)
    s3.put_object(Bucket="long", Key="k", Body=io.BytesIO(body))
    assert s3.get_object(Bucket="long", Key="k")["Body"].read() == body


def test_slow_answers_hold_nobody_up() -> None:
    with Sandbox() as sandbox:
        sandbox.state.faults.append(Latency(action="iam:ListUsers", seconds=0.2))
        iam = over_socket(sandbox, "iam")
        started = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: iam.list_users()["Users"], range(8)))
        took = time.monotonic() - started
    assert 0.2 <= took < 8 * 0.2


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (["iam", "list-users", "--query", "length(Users)"], "13"),
        (["sts", "get-caller-identity", "--query", "Arn"], "arn:aws:iam::111122223333:user/people/ops"),
    ],
)
def test_the_aws_cli_works_unchanged(
    served: Sandbox, tmp_path: Path, command: list[str], result: str
) -> None:
    env = {**os.environ, **served.env(), "HOME": str(tmp_path), "AWS_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [CLI, "--output", "text", *command], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, result), done.stderr


def test_in_the_foreground_it_prints_exports_and_ends_when_interrupted() -> None:
    program = "import sys; from sparekey.sandbox import serve; serve(None, 0, sys.stdout)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline().strip() for _ in range(5)]
        received = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        assert all(line.startswith("export AWS_") for line in lines)
        iam = SESSION.create_client(
            "iam",
            region_name=received["AWS_REGION"],
            endpoint_url=received["AWS_ENDPOINT_URL"],
            aws_access_key_id=received["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=received["AWS_SECRET_ACCESS_KEY"],
        )
        assert iam.get_user()["User"]["UserName"] == "ops"
        assert received["AWS_DEFAULT_REGION"] == received["AWS_REGION"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (out, err) == ("", "")
    finally:
        process.kill()
        process.wait()


def test_it_stops_and_says_where_it_is_only_while_it_serves() -> None:
    sandbox = Sandbox()
    with pytest.raises(SandboxError, match="serves no socket"):
        _ = sandbox.url
    with sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        assert (
            sandbox.env("billing-export", key=2)["AWS_ACCESS_KEY_ID"]
            == sandbox.key("billing-export", number=2).id
        )
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    sandbox.stop()


def test_another_company_is_served_on_the_same_socket() -> None:
    with Sandbox() as sandbox:
        url = sandbox.url
        sandbox.restart('[[account]]\nid = "444455556666"\nuser = [{ name = "alone" }]')
        assert sandbox.url == url
        users = over_socket(sandbox, "iam").list_users()["Users"]
        assert [user["UserName"] for user in users] == ["alone", "operator"]
        assert [call.account for call in sandbox.state.calls] == ["444455556666"]


def test_a_taken_port_is_told_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for wrong in (port, 70000):
            with pytest.raises(SandboxError, match=f"cannot listen on port {wrong}"):
                serve(None, wrong, io.StringIO())
