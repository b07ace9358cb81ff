"""AWS Secrets Manager: `secretsmanager:NAME` or an ARN; the labels AWSPENDING, AWSCURRENT and AWSPREVIOUS.

Source: https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
"""

import uuid
from typing import Any

from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.errors import NotFoundError
from sparekey.handover.interface import (
    HandoverError,
    HandoverTools,
    Publication,
    key_in,
    other_fields,
    require_place,
    with_key,
)
from sparekey.model import Unreadable
from sparekey.policy import Handover

_PENDING, _CURRENT, _PREVIOUS = "AWSPENDING", "AWSCURRENT", "AWSPREVIOUS"
ACTIONS = (
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecretVersionStage",
)


class SecretsManager:
    """One secret: a JSON object whose other fields are preserved."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        self._name, self._fields, self._region = place, handover.fields, handover.region or None
        self._account = tools.store_account(handover)

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError where no secret is named."""
        del handover
        require_place(place, "secretsmanager", "secretsmanager:prod/billing")

    def check(self) -> tuple[str, ...]:
        """Raise where the secret is missing, holds no JSON object, is being rotated, or may not be written."""
        described = self._describe()
        if described.get("RotationEnabled"):
            raise HandoverError(
                f"Secrets Manager itself rotates the secret {self._name}",
                "Switch its rotation off, or give the user to that rotator: [[rotators]] in the policy.",
            )
        stages = described.get("VersionIdsToStages") or {}
        pending = _labelled(stages, _PENDING)
        if pending and pending != _labelled(stages, _CURRENT):
            raise HandoverError(
                f"the secret {self._name} has a version {pending} that is pending: another rotation is at work",
                "Let it end, or remove its label AWSPENDING if it was abandoned.",
            )
        other_fields(self._current_text(), self._fields)
        denied = self._account.simulate(ACTIONS, [str(described["ARN"])])
        if isinstance(denied, Unreadable):
            return (f"whether the secret {self._name} may be written: {denied.why}",)
        if denied:
            raise HandoverError(
                f"these credentials lack {', '.join(denied)} on {described['ARN']}",
                "`sparekey iam-policy rotate` prints the policy that a rotation needs.",
            )
        return ()

    def current(self) -> str:
        """The id in the current version."""
        key = key_in(self._current_text(), self._fields)
        return key.id if key else ""

    def stage(self, key: NewAccessKey) -> str:
        """Store a key as AWSPENDING, beside the other fields of what is current."""
        version = _version_of(key.id)
        self._put(
            "PutSecretValue",
            ClientRequestToken=version,
            SecretString=with_key(self._current_text(), self._fields, key),
            VersionStages=[_PENDING],
        )
        return version

    def staged(self, key_id: str) -> str:
        """The version of a key: its id is made from the key's."""
        try:
            self._text(VersionId=_version_of(key_id))
        except NotFoundError:
            return ""
        return _version_of(key_id)

    def read(self, version: str) -> NewAccessKey:
        """The key of a version."""
        key = key_in(self._text(VersionId=version), self._fields)
        if key is None:
            raise HandoverError(
                f"version {version} of the secret {self._name} has no {self._fields.id} and {self._fields.secret}",
                "Check `fields` in the policy's [[handover]].",
            )
        return key

    def publish(self, version: str, key_id: str) -> Publication:
        """Move AWSCURRENT to a version; AWSPREVIOUS follows."""
        del key_id
        stages = self._describe().get("VersionIdsToStages") or {}
        current = _labelled(stages, _CURRENT)
        if current == version:
            return Publication(version, _labelled(stages, _PREVIOUS))
        pending = self._text(VersionId=version)
        if other_fields(pending, self._fields) != other_fields(self._current_text(), self._fields):
            raise HandoverError(
                f"the other fields of the secret {self._name} were changed after the new key was stored",
                "Undo the run, and plan again: publishing it would bring back what they were.",
            )
        self._move(_CURRENT, to=version, away=current)
        return Publication(version, current)

    def published(self, key_id: str) -> Publication | None:
        """The current version, if it is the key's, and the one before."""
        stages = self._describe().get("VersionIdsToStages") or {}
        version = _version_of(key_id)
        current = _labelled(stages, _CURRENT) == version
        return Publication(version, _labelled(stages, _PREVIOUS)) if current else None

    def revert(self, published: Publication) -> None:
        """Move AWSCURRENT back, unless somebody has published another version since."""
        stages = self._describe().get("VersionIdsToStages") or {}
        if not published.previous:
            raise HandoverError(f"the secret {self._name} had no version before: it is left as it is")
        if _labelled(stages, _CURRENT) == published.version:
            self._move(_CURRENT, to=published.previous, away=published.version)
        self.discard(published.version)

    def discard(self, version: str) -> None:
        """Take AWSPENDING from a version."""
        stages = self._describe().get("VersionIdsToStages") or {}
        if _labelled(stages, _PENDING) == version:
            self._move(_PENDING, away=version)

    def _move(self, stage: str, *, to: str = "", away: str = "") -> None:
        named = {"MoveToVersionId": to, "RemoveFromVersionId": away}
        params = {name: version for name, version in named.items() if version}
        self._put("UpdateSecretVersionStage", VersionStage=stage, **params)

    def _put(self, action: str, **params: Any) -> None:
        self._account.write("secretsmanager", action, {"SecretId": self._name, **params}, self._region)

    def _describe(self) -> dict[str, Any]:
        params = {"SecretId": self._name}
        try:
            return self._account.call("secretsmanager", "DescribeSecret", params, self._region)
        except NotFoundError as error:
            raise HandoverError(
                f"there is no secret {self._name}: {error.message}",
                "Create it; sparekey stores keys in a secret that exists and creates none.",
            ) from None

    def _current_text(self) -> str:
        try:
            return self._text(VersionStage=_CURRENT)
        except NotFoundError:
            return ""  # a secret that was created without a value

    def _text(self, **which: str) -> str:
        params = {"SecretId": self._name, **which}
        answer = self._account.call("secretsmanager", "GetSecretValue", params, self._region)
        return str(answer["SecretString"])


def _version_of(key_id: str) -> str:
    """A version's id, the same for the same key: so a repeated write makes no second version."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"sparekey:{key_id}"))


def _labelled(stages: dict[str, list[str]], label: str) -> str:
    return next((version for version, labels in stages.items() if label in labels), "")


STORE = SecretsManager


class SecretsManagerCopy(SecretsManager):
    """The same secret as a copy: each write is a version that is current at once."""

    def write(self, key: NewAccessKey) -> None:
        """Write a version that is current, unless the current one has the key already."""
        current = self._current_text()
        known = key_in(current, self._fields)
        if known is None or (known.id, known.secret) != (key.id, key.secret):
            self._put(
                "PutSecretValue",
                ClientRequestToken=str(uuid.uuid4()),
                SecretString=with_key(current, self._fields, key),
            )

    def read_back(self) -> str | None:
        """The id in the current version."""
        return self.current() or None


COPY = SecretsManagerCopy
