"""A profile of a shared credentials file: `profile:FILE#PROFILE`; comments and the other profiles are preserved.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
"""

from pathlib import Path
from typing import Any

from sparekey.aws.access_keys import NewAccessKey
from sparekey.handover._files import check_file, exchange
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.policy import FieldError, Handover

_ID, _SECRET = "aws_access_key_id", "aws_secret_access_key"  # names of settings
# With one of these the profile's key is not what applications sign with.
_OTHERS = ("aws_session_token", "credential_process", "role_arn", "sso_session", "sso_start_url")


class ProfileCopy:
    """One profile; the policy's names of fields have no effect: the names of its settings are AWS's."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        del handover, tools
        file, _, self._profile = place.rpartition("#")
        self._path = Path(file).expanduser()
        # In the file named "config" a section is called "profile NAME", but for the default.
        is_config = self._path.name == "config" and self._profile != "default"
        self._section = f"profile {self._profile}" if is_config else self._profile

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError where file or profile is missing."""
        del handover
        file, _, profile = place.rpartition("#")
        if not file.strip() or not profile.strip():
            raise FieldError(
                "", f"{place!r} is not FILE#PROFILE", "Such as profile:/srv/app/.aws/credentials#app."
            )

    def check(self) -> tuple[str, ...]:
        """Raise where the file or the profile cannot be used."""
        check_file(self._path, private=True)
        self._settings(self._read())
        return ()

    def write(self, key: NewAccessKey) -> None:
        """Set both in one exchange of the file."""
        check_file(self._path, private=True)
        document = self._read()
        settings = self._settings(document)
        if (settings[_ID].value, settings[_SECRET].value) != (key.id, key.secret):
            settings[_ID].value, settings[_SECRET].value = key.id, key.secret
            exchange(self._path, str(document).encode())

    def read_back(self) -> str | None:
        """The id that is there."""
        return str(self._settings(self._read())[_ID].value)

    def _settings(self, document: Any) -> Any:
        where = f"profile {self._profile} in {self._path}"
        if not document.has_section(self._section):
            raise HandoverError(
                f"there is no {where}", "Create it with its present key; sparekey creates none."
            )
        settings = document[self._section]
        others = [name for name in _OTHERS if name in settings]
        if others:
            raise HandoverError(f"{where} has {others[0]}: its key is not what applications sign with")
        for name in (_ID, _SECRET):
            if name not in settings:
                raise HandoverError(
                    f"{where} has no {name}", "Give it its present key; sparekey adds no setting."
                )
        return settings

    def _read(self) -> Any:
        try:
            from configupdater import ConfigUpdater  # noqa: PLC0415  # an extra
        except ImportError:
            raise HandoverError(
                "profile: needs configupdater, which is not installed", "pip install 'sparekey[profile]'"
            ) from None
        document = ConfigUpdater()
        try:
            document.read_string(self._path.read_text())
        except OSError as error:
            raise HandoverError(f"{self._path} cannot be read: {error.strerror}") from None
        except Exception:  # noqa: BLE001  # a parser's error quotes the line, which may be the secret
            raise HandoverError(f"{self._path} is not a credentials file, or has a section twice") from None
        return document


COPY = ProfileCopy
