"""A file encrypted with age: `age:FILE`, a JSON object for the policy's `recipients`.

`identity` is a file with a private key that can open it: sparekey reads the key back to test and copy it. The pending
version is FILE.sparekey-pending, the one before FILE.sparekey-previous.
Source: https://age-encryption.org/v1
"""

import hashlib
from pathlib import Path
from typing import Any

from sparekey.aws.access_keys import NewAccessKey
from sparekey.handover._files import check_file, exchange
from sparekey.handover.interface import (
    HandoverError,
    HandoverTools,
    Publication,
    key_in,
    other_fields,
    require_place,
    with_key,
)
from sparekey.policy import FieldError, Handover

_LARGEST = 1024 * 1024


class AgeFile:
    """One encrypted file; its versions are named by their digest."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        del tools
        self._current = Path(place).expanduser()
        self._pending = self._current.with_name(self._current.name + ".sparekey-pending")
        self._previous = self._current.with_name(self._current.name + ".sparekey-previous")
        self._fields, self._recipients = handover.fields, handover.recipients
        self._identity = Path(handover.identity).expanduser()

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError where file, recipients or identity are missing."""
        require_place(place, "age", "age:/etc/billing/key.age")
        if not handover.recipients or not handover.identity:
            raise FieldError(
                "",
                "age needs `recipients`, and an `identity` that sparekey reads the key back with",
                'Such as recipients = ["age1…"] and identity = "/etc/sparekey/identity.txt".',
            )
        for text in handover.recipients:
            if not text.startswith(("age1", "ssh-ed25519 ", "ssh-rsa ")):
                raise FieldError(
                    "", f"{text[:40]!r} is not a recipient of age", 'Such as "age1…" or "ssh-ed25519 …".'
                )

    def check(self) -> tuple[str, ...]:
        """Raise where the file or the identity cannot be used, or a rotation is at work."""
        check_file(self._current)
        check_file(self._identity, private=True)
        other_fields(self._decrypted(self._current), self._fields)
        if self._pending.exists():
            raise HandoverError(
                f"there is a file {self._pending}: another rotation is at work",
                "Let it end, or delete that file if the rotation was abandoned.",
            )
        if self._open(self._sealed("{}")) != "{}":
            raise HandoverError(f"{self._identity} does not open what is encrypted for the recipients")
        return ()

    def current(self) -> str:
        """The id in the file."""
        key = key_in(self._decrypted(self._current), self._fields)
        return key.id if key else ""

    def stage(self, key: NewAccessKey) -> str:
        """Write the pending file, unless it has the key already."""
        known = self.staged(key.id)
        if known:
            return known
        exchange(self._pending, self._sealed(with_key(self._decrypted(self._current), self._fields, key)))
        return _digest(self._pending)

    def staged(self, key_id: str) -> str:
        """The digest of the pending or current file that has the key."""
        for path in (self._pending, self._current):
            key = key_in(self._decrypted(path), self._fields) if path.exists() else None
            if key and key.id == key_id:
                return _digest(path)
        return ""

    def read(self, version: str) -> NewAccessKey:
        """The key of a version."""
        for path in (self._current, self._pending, self._previous):
            if path.exists() and _digest(path) == version:
                key = key_in(self._decrypted(path), self._fields)
                if key is None:
                    raise HandoverError(
                        f"{path} has no {self._fields.id} and {self._fields.secret}", "Check `fields`."
                    )
                return key
        raise HandoverError(
            f"no version of {self._current} is {version} any more", "Somebody else has written it."
        )

    def publish(self, version: str, key_id: str) -> Publication:
        """Keep the current file as the one before, and put the pending one in its place."""
        del version
        published = self.published(key_id)
        if published is None:
            pending, current = self._decrypted(self._pending), self._decrypted(self._current)
            if other_fields(pending, self._fields) != other_fields(current, self._fields):
                raise HandoverError(
                    f"the other fields of {self._current} were changed after the new key was stored",
                    "Undo the run, and plan again: publishing it would bring back what they were.",
                )
            exchange(self._previous, self._current.read_bytes())
            exchange(self._current, self._pending.read_bytes())
            published = Publication(_digest(self._current), _digest(self._previous))
        self.discard("")
        return published

    def published(self, key_id: str) -> Publication | None:
        """The current file, if it has the key, and the one before."""
        key = key_in(self._decrypted(self._current), self._fields)
        if key is None or key.id != key_id:
            return None
        return Publication(_digest(self._current), _digest(self._previous) if self._previous.exists() else "")

    def revert(self, published: Publication) -> None:
        """Put the file before in place of the current one, unless somebody has written it since."""
        if (
            not published.previous
            or not self._previous.exists()
            or _digest(self._previous) != published.previous
        ):
            raise HandoverError(f"the version of {self._current} before is gone: it is left as it is")
        if _digest(self._current) == published.version:
            exchange(self._current, self._previous.read_bytes())
        self.discard("")

    def discard(self, version: str) -> None:
        """Delete the pending file, which is sparekey's own."""
        del version
        self._pending.unlink(missing_ok=True)

    def _decrypted(self, path: Path) -> str:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise HandoverError(f"{path} cannot be read: {error.strerror}") from None
        if len(content) > _LARGEST:
            raise HandoverError(f"{path} is larger than 1 MiB: it holds no key")
        try:
            return self._open(content) if content else ""
        except HandoverError as error:
            raise HandoverError(f"{path}: {error.message}", error.hint) from None

    def _open(self, content: bytes) -> str:
        pyrage = _pyrage()
        try:
            return str(pyrage.decrypt(content, [_identity(pyrage, self._identity)]), "utf-8")
        except HandoverError:
            raise
        except Exception:  # noqa: BLE001  # whatever a damaged file does to the library
            raise HandoverError(
                f"it is damaged, or {self._identity} does not open it", "Check `recipients` and `identity`."
            ) from None

    def _sealed(self, text: str) -> bytes:
        pyrage = _pyrage()
        try:
            recipients = [
                (pyrage.ssh if text_.startswith("ssh-") else pyrage.x25519).Recipient.from_str(text_)
                for text_ in self._recipients
            ]
            return bytes(pyrage.encrypt(text.encode(), recipients))
        except Exception:  # noqa: BLE001  # the library's errors have no common type, and may quote what they got
            raise HandoverError("one of `recipients` is not a recipient of age") from None


def _pyrage() -> Any:
    try:
        import pyrage  # type: ignore[import-untyped]  # noqa: PLC0415  # an extra
    except ImportError:
        raise HandoverError(
            "age: needs pyrage, which is not installed", "pip install 'sparekey[age]'"
        ) from None
    return pyrage


def _identity(pyrage: Any, path: Path) -> Any:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise HandoverError(f"the identity {path} cannot be read: {why}") from None
    for line in text.splitlines():
        if line.startswith("AGE-SECRET-KEY-"):
            return pyrage.x25519.Identity.from_str(line.strip())
    return pyrage.ssh.Identity.from_buffer(text.encode())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


STORE = AgeFile
