"""Clients of a sandbox, in process and over a socket."""

from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from sparekey.sandbox import Sandbox
from sparekey.sandbox.state import Key

Client = Callable[..., Any]


def client(sandbox: Sandbox, service: str, credentials: Any = None, region: str = "us-east-1") -> Any:
    """A real client, answered in process; `credentials` is a key, a user's name or an answer of STS."""
    session = botocore.session.Session()
    sandbox.attach(session)
    match credentials:
        case None:
            key = sandbox.operator
            id_, secret, token = key.id, key.secret, None
        case Key():
            id_, secret, token = credentials.id, credentials.secret, None
        case str():
            key = sandbox.key(credentials)
            id_, secret, token = key.id, key.secret, None
        case _:
            found = credentials["Credentials"]
            id_, secret, token = found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
    return session.create_client(
        service,
        region_name=region,
        endpoint_url="http://127.0.0.1:4599",
        aws_access_key_id=id_,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(name="client")
def _client() -> Client:
    return client
