"""Variables of a GitLab project, against a local server that answers as GitLab's documentation says."""

from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote

import pytest

from handover.local_server import Answer, serving
from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.gateway import AccountGateway
from sparekey.handover.gitlab import GitlabVariables
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.policy import FieldError, Handover

KEY = NewAccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
HANDOVER = Handover(user="app", store="secretsmanager:app")
PROJECT = "/api/v4/projects/acme%2Fplatform%2Fapp/variables/"


class FakeGitlab:
    """The variables of one project; `masked` is what a person has set."""

    def __init__(self) -> None:
        self.variables = {
            name: {"value": "old", "masked": True} for name in (HANDOVER.fields.id, HANDOVER.fields.secret)
        }
        self.asked: list[str] = []
        self.url = ""

    def respond(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        self.asked.append(path)
        if headers.get("private-token") != "glpat-secret":
            return 401, {"message": "401 Unauthorized"}
        name = unquote(path.partition("?")[0].rpartition("/")[2])
        if not path.startswith(PROJECT) or name not in self.variables:
            return 404, {"message": "404 Variable Not Found"}
        if method == "PUT":
            self.variables[name]["value"] = body["value"]
        return 200, {"key": name, **self.variables[name]}


@pytest.fixture
def gitlab() -> Iterator[FakeGitlab]:
    fake = FakeGitlab()
    with serving(fake.respond) as url:
        fake.url = url
        yield fake


def copy(
    gitlab: FakeGitlab, place: str = "acme/platform/app", token: str = "glpat-secret"
) -> GitlabVariables:
    environ = {"GITLAB_TOKEN": token, "GITLAB_URL": gitlab.url}
    tools = HandoverTools(cast("AccountGateway", None), lambda _: cast("AccountGateway", None), environ)
    GitlabVariables.check_place(place, HANDOVER)
    return GitlabVariables(place, HANDOVER, tools)


def test_both_variables_are_written_and_read_back_and_stay_masked(gitlab: FakeGitlab) -> None:
    made = copy(gitlab)
    assert made.check() == ()
    made.write(KEY)
    assert gitlab.variables == {
        "AWS_ACCESS_KEY_ID": {"value": KEY.id, "masked": True},
        "AWS_SECRET_ACCESS_KEY": {"value": KEY.secret, "masked": True},
    }
    assert made.read_back() == KEY.id


def test_an_environments_scope_is_a_filter(gitlab: FakeGitlab) -> None:
    copy(gitlab, "acme/platform/app#production/*").check()
    assert gitlab.asked[0].endswith("?filter%5Benvironment_scope%5D=production%2F%2A")


@pytest.mark.parametrize(
    ("token", "gone", "message"), [("no", "", "HTTP 401"), ("glpat-secret", "AWS_ACCESS_KEY_ID", "HTTP 404")]
)
def test_what_cannot_be_used_is_one_sentence_and_nothing_is_created(
    gitlab: FakeGitlab, token: str, gone: str, message: str
) -> None:
    gitlab.variables.pop(gone, None)
    with pytest.raises(HandoverError, match=message) as caught:
        copy(gitlab, token=token).check()
    assert "glpat" not in caught.value.message + caught.value.hint
    assert gone not in gitlab.variables


@pytest.mark.parametrize("place", ["", "app", "acme/", "acme/app#", "a b/c"])
def test_what_is_no_project_is_refused_in_the_policy(place: str) -> None:
    with pytest.raises(FieldError):
        GitlabVariables.check_place(place, HANDOVER)
