"""AWS Systems Manager's Parameter Store: `ssm:/NAME`, a SecureString with a JSON object.

A parameter's newest version is what applications read, so a pending key lies in a parameter beside it,
`/NAME.sparekey-pending`, which is deleted once the key is published.
Source: https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html
"""

from typing import Any

from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.errors import AwsError
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
from sparekey.policy import FieldError, Handover

_SECURE = "SecureString"
_SUFFIX = ".sparekey-pending"
_PENDING = "pending"
_REPEATED = 20
ACTIONS = ("ssm:DeleteParameter", "ssm:GetParameter", "ssm:PutParameter")


class Parameter:
    """One parameter: a SecureString, whose encryption key and tier are kept."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        self._name, self._fields, self._region = place, handover.fields, handover.region or None
        self._account = tools.store_account(handover)

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError where no parameter is named."""
        del handover
        require_place(place, "ssm", "ssm:/prod/billing")
        if ":" in place:
            raise FieldError("", f"{place!r} names a version of a parameter", "Name the parameter alone.")

    def check(self) -> tuple[str, ...]:
        """Raise where the parameter is missing, is no SecureString of a JSON object, or may not be written."""
        described = self._described()
        other_fields(self._text(self._name), self._fields)
        if self._find(self._name + _SUFFIX) is not None:
            raise HandoverError(
                f"there is a parameter {self._name}{_SUFFIX}: another rotation is at work",
                "Let it end, or delete that parameter if the rotation was abandoned.",
            )
        arn = str(described["ARN"])
        denied = self._account.simulate(ACTIONS, [arn, arn + _SUFFIX])
        if isinstance(denied, Unreadable):
            return (f"whether the parameter {self._name} may be written: {denied.why}",)
        if denied:
            raise HandoverError(
                f"these credentials lack {', '.join(denied)} on {arn} or {arn}{_SUFFIX}",
                "`sparekey iam-policy rotate` prints the policy that a rotation needs.",
            )
        return ()

    def current(self) -> str:
        """The id in the newest version."""
        key = key_in(self._text(self._name), self._fields)
        return key.id if key else ""

    def stage(self, key: NewAccessKey) -> str:
        """Store a key in the parameter beside."""
        self._put(self._name + _SUFFIX, with_key(self._text(self._name), self._fields, key))
        return _PENDING

    def staged(self, key_id: str) -> str:
        """Whether the parameter beside, or the newest version, has the key."""
        for name, version in ((self._name + _SUFFIX, _PENDING), (self._name, "")):
            found = self._find(name)
            key = key_in(str(found["Value"]), self._fields) if found else None
            if found and key and key.id == key_id:
                return version or str(found["Version"])
        return ""

    def read(self, version: str) -> NewAccessKey:
        """The key of a version; the pending one is the newest once it was published."""
        name = self._name + _SUFFIX if version == _PENDING else f"{self._name}:{version}"
        found = self._find(name) or (self._find(self._name) if version == _PENDING else None)
        key = key_in(str(found["Value"]), self._fields) if found else None
        if key is None:
            raise HandoverError(
                f"{name} has no {self._fields.id} and {self._fields.secret}",
                "Check `fields` in the policy's [[handover]].",
            )
        return key

    def publish(self, version: str, key_id: str) -> Publication:
        """Write the pending key as the newest version, and delete the parameter beside."""
        current = self._parameter(self._name)
        key = key_in(str(current["Value"]), self._fields)
        number = int(current["Version"])
        if key is None or key.id != key_id:
            pending = str(self._parameter(self._name + _SUFFIX)["Value"])
            if other_fields(pending, self._fields) != other_fields(str(current["Value"]), self._fields):
                raise HandoverError(
                    f"the other fields of {self._name} were changed after the new key was stored",
                    "Undo the run, and plan again: publishing it would bring back what they were.",
                )
            self._put(self._name, pending)
            number = int(self._parameter(self._name)["Version"])
        self.discard(version)
        return Publication(str(number), self._before(number, key_id))

    def published(self, key_id: str) -> Publication | None:
        """The newest version, if it has the key, and the one before."""
        current = self._parameter(self._name)
        key = key_in(str(current["Value"]), self._fields)
        number = int(current["Version"])
        return Publication(str(number), self._before(number, key_id)) if key and key.id == key_id else None

    def _before(self, number: int, key_id: str) -> str:
        """The newest version before one that has another key; a put that was repeated made two with this one."""
        for earlier in range(number - 1, max(0, number - _REPEATED - 1), -1):
            found = self._find(f"{self._name}:{earlier}")
            key = key_in(str(found["Value"]), self._fields) if found else None
            if found and (key is None or key.id != key_id):
                return str(earlier)
        return ""

    def revert(self, published: Publication) -> None:
        """Write what was before as the newest version, unless somebody has written another one since."""
        current = self._parameter(self._name)
        if not published.previous:
            raise HandoverError(f"{self._name} had no version before: it is left as it is")
        if str(current["Version"]) == published.version:
            self._put(self._name, str(self._parameter(f"{self._name}:{published.previous}")["Value"]))

    def discard(self, version: str) -> None:
        """Delete the parameter beside, which is sparekey's own."""
        del version
        if self._find(self._name + _SUFFIX) is not None:
            self._account.write("ssm", "DeleteParameter", {"Name": self._name + _SUFFIX}, self._region)

    def _put(self, name: str, text: str) -> None:
        described = self._described()
        kept = {field: described[field] for field in ("KeyId", "Tier") if described.get(field)}
        # Overwriting without the key's name would encrypt with the account's default key.
        params = {"Name": name, "Value": text, "Type": _SECURE, "Overwrite": True, **kept}
        self._account.write("ssm", "PutParameter", params, self._region)

    def _described(self) -> dict[str, Any]:
        found = self._find(self._name)
        if found is None:
            raise HandoverError(
                f"there is no parameter {self._name}",
                "Create it as a SecureString; sparekey stores keys in a parameter that exists and creates none.",
            )
        if found["Type"] != _SECURE:
            raise HandoverError(
                f"the parameter {self._name} is a {found['Type']}: everybody who may list it can read it",
                "Create it as a SecureString.",
            )
        filters = [{"Key": "Name", "Option": "Equals", "Values": [self._name]}]
        answer = self._account.call("ssm", "DescribeParameters", {"ParameterFilters": filters}, self._region)
        listed = [item for item in answer.get("Parameters", ()) if item.get("Name") == self._name]
        return {**(listed[0] if listed else {}), "ARN": found["ARN"]}

    def _text(self, name: str) -> str:
        return str(self._parameter(name)["Value"])

    def _parameter(self, name: str) -> dict[str, Any]:
        found = self._find(name)
        if found is None:
            raise HandoverError(f"there is no parameter {name}")
        return found

    def _find(self, name: str) -> dict[str, Any] | None:
        try:
            answer = self._account.call(
                "ssm", "GetParameter", {"Name": name, "WithDecryption": True}, self._region
            )
        except AwsError as error:
            if error.code in ("ParameterNotFound", "ParameterVersionNotFound"):
                return None
            raise
        parameter: dict[str, Any] = answer["Parameter"]
        return parameter


STORE = Parameter


class ParameterCopy(Parameter):
    """The same parameter as a copy: each write is its newest version."""

    def write(self, key: NewAccessKey) -> None:
        """Write a version, unless the newest one has the key already."""
        current = self._text(self._name)
        known = key_in(current, self._fields)
        if known is None or (known.id, known.secret) != (key.id, key.secret):
            self._put(self._name, with_key(current, self._fields, key))

    def read_back(self) -> str | None:
        """The id in the newest version."""
        return self.current() or None


COPY = ParameterCopy
