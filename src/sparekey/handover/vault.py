"""HashiCorp Vault, KV version 2, with check-and-set: `vault:MOUNT/PATH`.

Address, token and namespace are VAULT_ADDR, VAULT_TOKEN and VAULT_NAMESPACE. A path's newest version is what
applications read, so a pending key lies in a path beside it, PATH-sparekey-pending, which is deleted once it is
published.
Source: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

import json
import re
import ssl
from typing import Any
from urllib.parse import quote

from sparekey.aws.access_keys import NewAccessKey
from sparekey.handover._http import Answer, JsonApi, required
from sparekey.handover.interface import (
    HandoverError,
    HandoverTools,
    Publication,
    key_in,
    other_fields,
    with_key,
)
from sparekey.policy import FieldError, Handover

_PLACE = re.compile(r"(?P<mount>[\w.-]+)/(?P<path>[\w./-]*[\w.-])", re.ASCII)
_SUFFIX = "-sparekey-pending"
_PENDING = "pending"
# How many versions before the current one are looked at for the one that has another key.
_BACK = 20


class VaultKv:
    """One secret of a KV version 2 mount; its other fields are preserved."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        match = _PLACE.fullmatch(place)
        assert match is not None  # noqa: S101  # `check_place` came first
        self._place, self._fields = f"vault:{place}", handover.fields
        self._mount, self._path = match["mount"], match["path"]
        headers = {"X-Vault-Token": required(tools.environ, "VAULT_TOKEN"), "X-Vault-Request": "true"}
        if tools.environ.get("VAULT_NAMESPACE"):
            headers["X-Vault-Namespace"] = tools.environ["VAULT_NAMESPACE"]
        authority = tools.environ.get("VAULT_CACERT")
        context = ssl.create_default_context(cafile=authority) if authority else None
        self._api = JsonApi("Vault", required(tools.environ, "VAULT_ADDR"), headers, context)

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError for what is no path of a mount."""
        del handover
        if not _PLACE.fullmatch(place):
            raise FieldError("", f"{place!r} is not MOUNT/PATH", "Such as vault:secret/prod/billing.")

    def check(self) -> tuple[str, ...]:
        """Raise where the secret is missing, is being rotated, or may not be written."""
        self._current()
        if self._read(self._path + _SUFFIX) is not None:
            raise HandoverError(
                f"{self._place}{_SUFFIX} exists: another rotation is at work",
                "Let it end, or delete that path if the rotation was abandoned.",
            )
        paths = [f"{self._mount}/data/{self._path}", f"{self._mount}/data/{self._path}{_SUFFIX}"]
        answer = self._api.ask("POST", "/v1/sys/capabilities-self", {"paths": paths})
        data = answer.content.get("data")
        if answer.status != 200 or not isinstance(data, dict):
            return (f"whether {self._place} may be written: Vault answers HTTP {answer.status}",)
        for path, needed in zip(paths, ("update", "create"), strict=True):
            if not {needed, "root", "sudo"} & set(data.get(path) or ()):
                raise HandoverError(
                    f"the token may not {needed} {path}", "docs/how-to/rotate.md has the policy."
                )
        return ()

    def current(self) -> str:
        """The id in the newest version."""
        content, _ = self._current()
        key = self._key(content)
        return key.id if key else ""

    def stage(self, key: NewAccessKey) -> str:
        """Write the path beside, unless it has the key already."""
        if not self.staged(key.id):
            content, _ = self._current()
            text = with_key(json.dumps(content), self._fields, key)
            self._write(self._path + _SUFFIX, json.loads(text), self._version(self._path + _SUFFIX))
        return _PENDING

    def staged(self, key_id: str) -> str:
        """Whether the path beside, or the newest version, has the key."""
        for path, version in ((self._path + _SUFFIX, _PENDING), (self._path, "")):
            known = self._read(path)
            key = self._key(known[0]) if known else None
            if known and key and key.id == key_id:
                return version or str(known[1])
        return ""

    def read(self, version: str) -> NewAccessKey:
        """The key of a version; the pending one is the newest once it was published."""
        if version == _PENDING:
            known = self._read(self._path + _SUFFIX) or self._read(self._path)
        else:
            known = self._read(self._path, version)
        key = self._key(known[0]) if known else None
        if key is None:
            raise HandoverError(
                f"version {version} of {self._place} has no {self._fields.id} and {self._fields.secret}",
                "Check `fields` in the policy's [[handover]].",
            )
        return key

    def publish(self, version: str, key_id: str) -> Publication:
        """Write the pending key as the newest version, if nobody wrote meanwhile, and delete the path beside."""
        published = self.published(key_id)
        if published is None:
            content, number = self._current()
            pending = self._read(self._path + _SUFFIX)
            if pending is None:
                raise HandoverError(f"{self._place}{_SUFFIX} is gone", "Somebody deleted it: undo the run.")
            if self._others(pending[0]) != self._others(content):
                raise HandoverError(
                    f"the other fields of {self._place} were changed after the new key was stored",
                    "Undo the run, and plan again: publishing it would bring back what they were.",
                )
            self._write(self._path, pending[0], number)
            published = self.published(key_id)
            if published is None:
                raise HandoverError(f"{self._place} was written by somebody else meanwhile", temporary=True)
        self.discard(version)
        return published

    def published(self, key_id: str) -> Publication | None:
        """The newest version, if it has the key, and the newest before it that has another one."""
        content, number = self._current()
        key = self._key(content)
        if key is None or key.id != key_id:
            return None
        for earlier in range(number - 1, max(0, number - _BACK - 1), -1):
            known = self._read(self._path, str(earlier))
            other = self._key(known[0]) if known else None
            if known and (other is None or other.id != key_id):
                return Publication(str(number), str(earlier))
        return Publication(str(number), "")

    def revert(self, published: Publication) -> None:
        """Write what was before as the newest version, unless somebody has written another one since."""
        _, number = self._current()
        before = self._read(self._path, published.previous) if published.previous else None
        if before is None:
            raise HandoverError(f"the version of {self._place} before is gone: it is left as it is")
        if str(number) == published.version:
            self._write(self._path, before[0], number)

    def discard(self, version: str) -> None:
        """Delete the path beside, which is sparekey's own, with all its versions."""
        del version
        answer = self._api.ask("DELETE", self._url("metadata", self._path + _SUFFIX))
        if answer.status not in (200, 204, 404):
            raise self._refused(answer, "deleting the pending path")

    def _current(self) -> tuple[dict[str, Any], int]:
        known = self._read(self._path)
        if known is None:
            raise HandoverError(
                f"there is no {self._place}, or its newest version is deleted",
                "Write it with its present key; sparekey creates none.",
            )
        return known

    def _version(self, path: str) -> int:
        """The newest version's number, deleted or not; 0 where there never was one."""
        answer = self._api.ask("GET", self._url("metadata", path))
        if answer.status == 404:
            return 0
        if answer.status != 200:
            raise self._refused(answer, "reading the versions")
        return int((answer.content.get("data") or {}).get("current_version", 0))

    def _read(self, path: str, version: str = "") -> tuple[dict[str, Any], int] | None:
        answer = self._api.ask("GET", self._url("data", path) + (f"?version={version}" if version else ""))
        if answer.status == 404:
            return None
        data = answer.content.get("data")
        if answer.status != 200 or not isinstance(data, dict) or "metadata" not in data:
            raise self._refused(answer, "reading")
        content = data.get("data")
        return (content, int(data["metadata"]["version"])) if isinstance(content, dict) else None

    def _write(self, path: str, content: dict[str, Any], after: int) -> None:
        answer = self._api.ask("POST", self._url("data", path), {"options": {"cas": after}, "data": content})
        if answer.status == 400:
            raise HandoverError(f"{self._place} was written by somebody else meanwhile", temporary=True)
        if answer.status not in (200, 204):
            raise self._refused(answer, "writing")

    def _refused(self, answer: Answer, what: str) -> HandoverError:
        hints = {
            200: f"Is {self._mount} a KV mount of version 2?",
            403: "The token is not valid, or its policy does not allow it: docs/how-to/rotate.md.",
            404: f"Is {self._mount} a KV mount of version 2?",
        }
        hint = hints.get(answer.status, "Look at Vault's log.")
        return HandoverError(f"{self._place}: {what} failed: HTTP {answer.status}", hint)

    def _url(self, kind: str, path: str) -> str:
        return f"/v1/{quote(self._mount)}/{kind}/{quote(path)}"

    def _key(self, content: dict[str, Any]) -> NewAccessKey | None:
        return key_in(json.dumps(content), self._fields)

    def _others(self, content: dict[str, Any]) -> dict[str, Any]:
        return other_fields(json.dumps(content), self._fields)


STORE = VaultKv
