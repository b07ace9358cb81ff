"""A Secret of Kubernetes: `kubernetes:NAMESPACE/SECRET`, by the cluster's own HTTP API.

In a pod its service account is used, elsewhere the current context of KUBECONFIG with a token in it.
Source: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/
"""

import base64
import binascii
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sparekey.aws.access_keys import NewAccessKey
from sparekey.handover._http import Answer, JsonApi
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.policy import FieldError, Handover

_PLACE = re.compile(r"(?P<namespace>[a-z0-9-]{1,63})/(?P<name>[a-z0-9.-]{1,253})")
_LARGEST_CONFIG = 1024 * 1024
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubernetesSecret:
    """One Secret that exists; its other entries are preserved."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        match = _PLACE.fullmatch(place)
        assert match is not None  # noqa: S101  # `check_place` came first
        self._place, self._fields = f"kubernetes:{place}", handover.fields
        self._namespace, self._name = match["namespace"], match["name"]
        self._url = f"/api/v1/namespaces/{self._namespace}/secrets/{self._name}"
        self._api = _connect(tools.environ)

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError for what is no Secret."""
        del handover
        if not _PLACE.fullmatch(place):
            raise FieldError("", f"{place!r} is not NAMESPACE/SECRET", "Such as kubernetes:billing/aws-key.")

    def check(self) -> tuple[str, ...]:
        """Raise where the Secret is missing, cannot be changed, or may not be written."""
        self._read()
        attributes = {
            "namespace": self._namespace,
            "verb": "patch",
            "resource": "secrets",
            "name": self._name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._api.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        if answer.status != 201:
            return (f"whether {self._place} may be written: HTTP {answer.status}",)
        if not (answer.content.get("status") or {}).get("allowed"):
            raise HandoverError(f"{self._place} may not be patched", "docs/how-to/rotate.md has the Role.")
        return ()

    def write(self, key: NewAccessKey) -> None:
        """Set id and secret in one patch, if nobody has written the Secret since it was read."""
        secret = self._read()
        data = {self._fields.id: _encoded(key.id), self._fields.secret: _encoded(key.secret)}
        if data.items() <= (secret.get("data") or {}).items():
            return
        patch = {"metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]}, "data": data}
        answer = self._api.ask("PATCH", self._url, patch, "application/merge-patch+json")
        if answer.status == 409:
            raise HandoverError(f"{self._place} was written by somebody else meanwhile", temporary=True)
        if answer.status != 200:
            raise self._refused(answer, "writing")

    def read_back(self) -> str | None:
        """The id that is there; None where it has none."""
        text = (self._read().get("data") or {}).get(self._fields.id)
        try:
            return base64.b64decode(text, validate=True).decode() if isinstance(text, str) else None
        except (binascii.Error, UnicodeDecodeError):
            return ""

    def _read(self) -> dict[str, Any]:
        answer = self._api.ask("GET", self._url)
        if answer.status != 200 or "metadata" not in answer.content:
            raise self._refused(answer, "reading")
        if answer.content.get("immutable"):
            raise HandoverError(f"{self._place} is immutable", "Create it again without `immutable`.")
        return answer.content

    def _refused(self, answer: Answer, what: str) -> HandoverError:
        hints = {
            401: "The token is not valid, or has expired.",
            403: "docs/how-to/rotate.md has the Role that is needed.",
            404: "Create it with its present key; sparekey creates none.",
        }
        hint = hints.get(answer.status, "Look at the API server's log.")
        return HandoverError(f"{self._place}: {what} failed: HTTP {answer.status}", hint)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _connect(environ: Mapping[str, str]) -> JsonApi:
    """The cluster of the pod, else that of KUBECONFIG; raises HandoverError."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if host and not environ.get("KUBECONFIG"):
        try:
            token = (SERVICE_ACCOUNT / "token").read_text().strip()
            context = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
        except OSError as error:
            raise HandoverError(f"the pod's service account cannot be read: {error.strerror}") from None
        name = f"[{host}]" if ":" in host else host
        return JsonApi("Kubernetes", f"https://{name}:{port}", {"Authorization": f"Bearer {token}"}, context)
    path = environ.get("KUBECONFIG", "")
    if not path:
        raise HandoverError(
            "no cluster is named", "Run in a pod, or set KUBECONFIG to a file with a token in it."
        )
    return _from_kubeconfig(Path(path))


def _from_kubeconfig(path: Path) -> JsonApi:
    try:
        content = path.read_bytes()
        config = yaml.safe_load(content) if len(content) <= _LARGEST_CONFIG else None
    except OSError as error:
        raise HandoverError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        config = None
    current = config.get("current-context") if isinstance(config, dict) else None
    context = _named(config, "contexts", "context", current)
    cluster = _named(config, "clusters", "cluster", context.get("cluster"))
    user = _named(config, "users", "user", context.get("user"))
    token = user.get("token")
    if user.get("tokenFile"):
        try:
            token = Path(str(user["tokenFile"])).read_text().strip()
        except OSError as error:
            raise HandoverError(f"the token file of {path} cannot be read: {error.strerror}") from None
    if not isinstance(token, str) or not isinstance(cluster.get("server"), str):
        raise HandoverError(
            f"the current context of {path} has no server, or its user no token",
            "sparekey uses `token` or `tokenFile`, and runs no `exec` plug-in.",
        )
    return JsonApi(
        "Kubernetes", cluster["server"], {"Authorization": f"Bearer {token}"}, _trust(cluster, path)
    )


def _trust(cluster: Mapping[str, Any], path: Path) -> ssl.SSLContext:
    data, file = cluster.get("certificate-authority-data"), cluster.get("certificate-authority")
    try:
        if isinstance(data, str):
            return ssl.create_default_context(cadata=base64.b64decode(data).decode())
        return ssl.create_default_context(cafile=file if isinstance(file, str) else None)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise HandoverError(f"the certificate authority of {path} cannot be read") from None


def _named(config: object, table: str, field: str, name: object) -> Mapping[str, Any]:
    """One entry of a kubeconfig's list, by its name; empty where there is none."""
    entries = config.get(table) if isinstance(config, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(field), dict):
            found: Mapping[str, Any] = entry[field]
            return found
    return {}


COPY = KubernetesSecret
