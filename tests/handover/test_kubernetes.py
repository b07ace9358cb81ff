"""A Secret of Kubernetes, against a fake API server with optimistic locking as its documentation says."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from handover.local_server import Answer, serving
from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.gateway import AccountGateway
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.handover.kubernetes import KubernetesSecret
from sparekey.policy import FieldError, Handover

NEW = NewAccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
HANDOVER = Handover(user="app", store="secretsmanager:app")
SECRET = "/api/v1/namespaces/billing/secrets/aws-key"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class FakeCluster:
    """One Secret; its resourceVersion grows with each write."""

    def __init__(self) -> None:
        self.data = {"AWS_ACCESS_KEY_ID": encoded("AKIAOLD"), "region": encoded("eu-west-1")}
        self.version, self.allowed, self.immutable, self.writes = 7, True, False, 0
        self.cut = self.raced = False

    def respond(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        if headers.get("authorization") != "Bearer token-of-the-cluster":
            return 401, {"kind": "Status"}
        if path.endswith("/selfsubjectaccessreviews"):
            return 201, {"status": {"allowed": self.allowed}}
        if path != SECRET:
            return 404, {"kind": "Status"}
        if method == "PATCH":
            assert headers["content-type"] == "application/merge-patch+json"
            if self.raced:
                self.version += 1
            if body["metadata"]["resourceVersion"] != str(self.version):
                return 409, {"kind": "Status"}
            self.data |= body["data"]
            self.version, self.writes = self.version + 1, self.writes + 1
            if self.cut:
                self.cut = False
                return 0, None
        metadata = {"name": "aws-key", "resourceVersion": str(self.version)}
        return 200, {"kind": "Secret", "metadata": metadata, "data": self.data, "immutable": self.immutable}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def kubeconfig(cluster: FakeCluster, tmp_path: Path) -> Iterator[Path]:
    with serving(cluster.respond) as url:
        path = tmp_path / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {"token": "token-of-the-cluster"}}],
                }
            )
        )
        yield path


def copy(kubeconfig: Path, place: str = "billing/aws-key") -> KubernetesSecret:
    tools = HandoverTools(
        cast("AccountGateway", None), lambda _: cast("AccountGateway", None), {"KUBECONFIG": str(kubeconfig)}
    )
    KubernetesSecret.check_place(place, HANDOVER)
    return KubernetesSecret(place, HANDOVER, tools)


def test_the_pair_is_written_in_one_patch_and_the_rest_stays(cluster: FakeCluster, kubeconfig: Path) -> None:
    made = copy(kubeconfig)
    assert made.check() == ()
    made.write(NEW)
    assert cluster.data == {
        "AWS_ACCESS_KEY_ID": encoded(NEW.id),
        "AWS_SECRET_ACCESS_KEY": encoded(NEW.secret),
        "region": encoded("eu-west-1"),
    }
    assert (made.read_back(), cluster.writes) == (NEW.id, 1)


def test_a_line_that_is_cut_after_the_write_is_made_good_by_repeating(
    cluster: FakeCluster, kubeconfig: Path
) -> None:
    cluster.cut = True
    with pytest.raises(HandoverError, match="no answer from Kubernetes") as caught:
        copy(kubeconfig).write(NEW)
    assert caught.value.temporary
    copy(kubeconfig).write(NEW)
    assert cluster.writes == 1


def test_another_writer_is_not_overwritten(cluster: FakeCluster, kubeconfig: Path) -> None:
    cluster.raced = True
    with pytest.raises(HandoverError, match="somebody else meanwhile") as caught:
        copy(kubeconfig).write(NEW)
    assert caught.value.temporary
    assert cluster.data["AWS_ACCESS_KEY_ID"] == encoded("AKIAOLD")


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        ({}, "billing/nothing", "HTTP 404"),
        ({"allowed": False}, "billing/aws-key", "may not be patched"),
        ({"immutable": True}, "billing/aws-key", "is immutable"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    cluster: FakeCluster, kubeconfig: Path, change: dict[str, Any], place: str, message: str
) -> None:
    for name, value in change.items():
        setattr(cluster, name, value)
    with pytest.raises(HandoverError, match=message):
        copy(kubeconfig, place).check()


@pytest.mark.parametrize("text", ["", "- 1", "{", "current-context: x", "users: {a: 1}"])
def test_a_kubeconfig_that_is_none_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(HandoverError, match="no server, or its user no token"):
        copy(path)


@pytest.mark.parametrize("place", ["", "billing", "billing/", "Billing/x", "a/b/c"])
def test_what_is_no_secret_is_refused_in_the_policy(place: str) -> None:
    with pytest.raises(FieldError):
        KubernetesSecret.check_place(place, HANDOVER)
