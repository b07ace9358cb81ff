"""Real botocore clients of a sandbox, answered in process; every answer is held to botocore's own models."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sparekey.sandbox import Sandbox, SandboxClock
from sparekey.sandbox.state import SandboxKey

Client = Callable[..., Any]
SESSION = botocore.session.Session()


def _xml_leaves(element: ElementTree.Element) -> int:
    tag = element.tag.rpartition("}")[2]
    if len(element):
        # A map's key is no value of its own in botocore's answer.
        children = [child for child in element if not (tag == "entry" and child.tag.endswith("key"))]
        return sum(map(_xml_leaves, children))
    return int(bool((element.text or "").strip()) and tag.lower() != "requestid")


def _leaves(value: object) -> int:
    if isinstance(value, dict):
        return sum(map(_leaves, value.values()))
    if isinstance(value, list):
        return sum(map(_leaves, value))
    return 1


def _nothing_is_lost(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
    """Every value that the sandbox sent has a place in what botocore read."""
    kind = http_response.headers.get("content-type", "")
    if http_response.status_code >= 300 or "octet-stream" in kind or not http_response.content:
        return
    received = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
    if "json" in kind:
        sent = _leaves(json.loads(http_response.content))
    else:
        sent = _xml_leaves(ElementTree.fromstring(http_response.content))
        assert parsed["ResponseMetadata"]["RequestId"]
    assert _leaves(received) == sent


def make_client(
    sandbox: Sandbox,
    service: str,
    credentials: Any = None,
    *,
    region: str = "us-east-1",
    account: str = "",
    **config: Any,
) -> Any:
    """A client; `credentials` is a key, a user's name, an answer of STS, or the operator's."""
    if isinstance(credentials, dict):
        found = credentials["Credentials"]
        id_, secret, token = found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
    else:
        key = sandbox.key(credentials, account=account) if isinstance(credentials, str) else credentials
        key = key or sandbox.operator
        assert isinstance(key, SandboxKey)
        id_, secret, token = key.id, key.secret, None
    made = SESSION.create_client(
        service,
        region_name=region,
        endpoint_url="http://127.0.0.1:4599",
        aws_access_key_id=id_,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(**{"retries": {"total_max_attempts": 1}, "parameter_validation": False} | config),
    )
    sandbox.attach(made)
    made.meta.events.register("after-call", _nothing_is_lost)
    return made


@pytest.fixture
def client() -> Client:
    """How to make a client."""
    return make_client


@pytest.fixture
def clock() -> SandboxClock:
    """A clock that stands still."""
    return SandboxClock(datetime.now(UTC))


@pytest.fixture
def company(clock: SandboxClock) -> Sandbox:
    """The demo company at a standing clock."""
    return Sandbox(clock=clock)


def _refused(call: Callable[..., Any], **params: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


@pytest.fixture
def refused() -> Callable[..., tuple[str, int, str]]:
    """How a call is refused: code, HTTP status and message."""
    return _refused
