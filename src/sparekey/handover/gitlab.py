"""CI/CD variables of a GitLab project: `gitlab:GROUP/PROJECT`, or `gitlab:GROUP/PROJECT#SCOPE` for an environment.

The token is GITLAB_TOKEN, of a Maintainer, with the scope `api`; the address GITLAB_URL (default gitlab.com).
Source: https://docs.gitlab.com/api/project_level_variables/
"""

import re
from urllib.parse import quote

from sparekey.aws.access_keys import NewAccessKey
from sparekey.handover._http import Answer, JsonApi, required
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.policy import FieldError, Handover

_PLACE = re.compile(r"(?P<project>[\w.-]+(?:/[\w.-]+)+)(?:#(?P<scope>.+))?", re.ASCII)
_GITLAB = "https://gitlab.com"


class GitlabVariables:
    """Two variables that exist; how they are masked and protected is not changed."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        match = _PLACE.fullmatch(place)
        assert match is not None  # noqa: S101  # `check_place` came first
        self._place, self._fields = f"gitlab:{place}", handover.fields
        self._variables = f"/api/v4/projects/{quote(match['project'], safe='')}/variables"
        scope = match["scope"]
        self._filter = f"?filter%5Benvironment_scope%5D={quote(scope, safe='')}" if scope else ""
        token = required(tools.environ, "GITLAB_TOKEN")
        address = tools.environ.get("GITLAB_URL") or tools.environ.get("CI_SERVER_URL") or _GITLAB
        self._api = JsonApi("GitLab", address, {"PRIVATE-TOKEN": token})

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError for what is no project."""
        if not _PLACE.fullmatch(place):
            raise FieldError(
                "", f"{place!r} is not GROUP/PROJECT or GROUP/PROJECT#SCOPE", "Such as gitlab:acme/app."
            )
        for name in (handover.fields.id, handover.fields.secret):
            if not re.fullmatch(r"[A-Za-z0-9_]{1,255}", name, re.ASCII):
                raise FieldError(
                    "", f"{name!r} is not a name that a variable of GitLab can have", "See `fields`."
                )

    def check(self) -> tuple[str, ...]:
        """Raise where a variable is missing or cannot be read, which only a Maintainer may."""
        for name in (self._fields.id, self._fields.secret):
            self._value(name)
        return ()

    def write(self, key: NewAccessKey) -> None:
        """Write the secret, then the id: a job that starts in between has a pair that does not fit."""
        for name, text in ((self._fields.secret, key.secret), (self._fields.id, key.id)):
            answer = self._api.ask("PUT", f"{self._variables}/{quote(name)}{self._filter}", {"value": text})
            if answer.status != 200:
                raise self._refused(answer, name)

    def read_back(self) -> str | None:
        """The id that is there; None where GitLab hides it."""
        return self._value(self._fields.id)

    def _value(self, name: str) -> str | None:
        answer = self._api.ask("GET", f"{self._variables}/{quote(name)}{self._filter}")
        if answer.status != 200:
            raise self._refused(answer, name)
        value = answer.content.get("value")
        return value if isinstance(value, str) else None  # hidden variables have none

    def _refused(self, answer: Answer, name: str) -> HandoverError:
        hints = {
            400: "A masked variable takes only some characters and a single line; GitLab may also know several of the "
            "name: name their scope, gitlab:GROUP/PROJECT#SCOPE.",
            401: "GITLAB_TOKEN is not valid, or has expired.",
            403: "The token needs the scope api and the role Maintainer.",
            404: f"Create the variable {name}, masked and protected; or the token does not reach the project.",
        }
        return HandoverError(
            f"{self._place}: variable {name}: HTTP {answer.status}",
            hints.get(answer.status, "Try again later."),
        )


COPY = GitlabVariables
