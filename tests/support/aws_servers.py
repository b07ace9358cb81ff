"""Three servers that answer the AWS API: our sandbox, and two judges that we did not write."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from sparekey.sandbox import Sandbox, parse_scenario

_EMPTY = """
[caller]
account = "111122223333"
user = "ops"
[[account]]
id = "111122223333"
name = "Empty"
[[account.user]]
name = "ops"
key = [{ age = "20d" }]
"""
REPOSITORY = Path(__file__).parents[2]
JUDGE = REPOSITORY / ".venv-judge"


class Server:
    """A running server, its address and the credentials of somebody who may do everything there."""

    def __init__(self, name: str, url: str, access_key: str, secret_key: str) -> None:
        self.name, self.url = name, url
        self.access_key, self.secret_key = access_key, secret_key

    @property
    def env(self) -> dict[str, str]:
        """What points an AWS client at the server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, access_key: str = "", secret_key: str = "") -> Any:
        """A botocore client of the server."""
        return botocore.session.Session().create_client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=Config(retries={"max_attempts": 1}),
        )


@contextmanager
def sandbox() -> Iterator[Server]:
    """Our own practice AWS."""
    with Sandbox(parse_scenario(_EMPTY)) as aws:
        env = aws.env()
        yield Server("sandbox", aws.url, env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])


@contextmanager
def moto() -> Iterator[Server]:
    """moto in server mode."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, {}):
        yield Server("moto", f"http://127.0.0.1:{port}", "AKIAIOSFODNN7EXAMPLE", "practice")


@contextmanager
def ministack() -> Iterator[Server]:
    """ministack with AUTH=true: signatures are verified, inactive keys are rejected."""
    hypercorn = JUDGE / "bin" / "hypercorn"
    assert hypercorn.exists(), "ministack is not installed: `make test` installs it (tools/venv judge)"
    port = free_port()
    command = [str(hypercorn), "--bind", f"127.0.0.1:{port}", "ministack.app:app"]
    with running(command, port, {"AUTH": "true", "GATEWAY_PORT": str(port)}):
        yield Server("ministack", f"http://127.0.0.1:{port}", "test", "test")


@contextmanager
def running(command: list[str], port: int, env: Mapping[str, str]) -> Iterator[None]:
    """Run a server until its block ends; it must answer within 30 seconds."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=tempfile.gettempdir(),
        )
        try:
            _await(port, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(port: int, process: "subprocess.Popen[bytes]", log: Any) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    log.seek(0)
    raise AssertionError(f"{process.args!r} did not answer:\n{log.read().decode(errors='replace')[-2000:]}")


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
