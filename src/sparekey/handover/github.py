"""Secrets of GitHub Actions: `github:OWNER/REPO`, or `github:OWNER/REPO#ENVIRONMENT`.

The token is GITHUB_TOKEN or GH_TOKEN, with the permission "Secrets: write" (of an environment: "Environments: write").
Source: https://docs.github.com/en/rest/actions/secrets
"""

import base64
import re
from urllib.parse import quote

from sparekey.aws.access_keys import NewAccessKey
from sparekey.handover._http import Answer, JsonApi, required
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.policy import FieldError, Handover

_PLACE = re.compile(r"(?P<owner>[\w.-]+)/(?P<repo>[\w.-]+)(?:#(?P<environment>.+))?", re.ASCII)
_API = "https://api.github.com"
_NEEDS = 'The token needs "Secrets: write", for an environment "Environments: write".'


class GithubSecrets:
    """Two secrets, sealed for the repository's or the environment's public key; GitHub never shows them again."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        match = _PLACE.fullmatch(place)
        assert match is not None  # noqa: S101  # `check_place` came first
        self._place, self._fields = f"github:{place}", handover.fields
        repo = f"/repos/{match['owner']}/{match['repo']}"
        environment = match["environment"]
        self._secrets = (
            f"{repo}/environments/{quote(environment, safe='')}/secrets"
            if environment
            else f"{repo}/actions/secrets"
        )
        token = required(tools.environ, "GITHUB_TOKEN", "GH_TOKEN")
        headers = {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": "2022-11-28"}
        self._api = JsonApi("GitHub", tools.environ.get("GITHUB_API_URL") or _API, headers)

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError for what is no repository."""
        if not _PLACE.fullmatch(place):
            raise FieldError(
                "", f"{place!r} is not OWNER/REPO or OWNER/REPO#ENVIRONMENT", "Such as github:acme/app."
            )
        for name in (handover.fields.id, handover.fields.secret):
            if not re.fullmatch(r"(?!GITHUB_)[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII | re.IGNORECASE):
                raise FieldError(
                    "", f"{name!r} is not a name that a secret of GitHub can have", "See `fields`."
                )

    def check(self) -> tuple[str, ...]:
        """Raise where the public key cannot be read; whether secrets may be written is not to be asked."""
        _sealed(self._public_key()[1], "")
        return (f"whether the token may write secrets of {self._place}: GitHub shows it only by writing",)

    def write(self, key: NewAccessKey) -> None:
        """Write the secret, then the id: a job that starts in between has a pair that does not fit."""
        self._put(self._fields.secret, key.secret)
        try:
            self._put(self._fields.id, key.id)
        except HandoverError as error:
            raise HandoverError(
                f"{self._place}: {self._fields.secret} is the new one and {self._fields.id} still the old one: "
                f"{error.message}",
                "Resume the run at once: until then the pair does not fit.",
                temporary=error.temporary,
            ) from None

    def read_back(self) -> str | None:
        """None: GitHub shows no secret."""
        return None

    def _put(self, name: str, text: str) -> None:
        for last in (False, True):
            key_id, public_key = self._public_key()
            content = {"encrypted_value": _sealed(public_key, text), "key_id": key_id}
            answer = self._api.ask("PUT", f"{self._secrets}/{name}", content)
            if answer.status in (201, 204):
                return
            if answer.status != 422 or last:  # 422: the public key was exchanged in between
                raise self._refused(answer, f"writing {name}")

    def _public_key(self) -> tuple[str, str]:
        answer = self._api.ask("GET", f"{self._secrets}/public-key")
        key_id, public_key = answer.content.get("key_id"), answer.content.get("key")
        if answer.status != 200 or not isinstance(key_id, str) or not isinstance(public_key, str):
            raise self._refused(answer, "reading the public key")
        return key_id, public_key

    def _refused(self, answer: Answer, what: str) -> HandoverError:
        slow = answer.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in answer.headers
        if answer.status == 403 and slow:
            return HandoverError(f"{self._place}: GitHub's limit of requests is reached", temporary=True)
        hints = {
            401: "GITHUB_TOKEN is not valid, or has expired.",
            403: _NEEDS,
            404: f"There is no such repository or environment, or the token does not reach it. {_NEEDS}",
        }
        return HandoverError(
            f"{self._place}: {what} failed: HTTP {answer.status}",
            hints.get(answer.status, "Look at GitHub's status page."),
        )


def _sealed(public_key: str, text: str) -> str:
    """The text in a sealed box for a public key, both in base64: only GitHub can open it."""
    try:
        from nacl import public  # noqa: PLC0415  # an extra
    except ImportError:
        raise HandoverError(
            "github: needs PyNaCl, which is not installed", "pip install 'sparekey[github]'"
        ) from None
    try:
        box = public.SealedBox(public.PublicKey(base64.b64decode(public_key)))
    except Exception:  # noqa: BLE001  # whatever a bad answer does to the library
        raise HandoverError("GitHub's public key cannot be understood", temporary=True) from None
    return base64.b64encode(box.encrypt(text.encode())).decode()


COPY = GithubSecrets
