"""What is shipped beside the code: container, action, workflows, forms, news fragments; and that they work."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparekey.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMAS = [
    *((path, "github-workflows") for path in WORKFLOWS),
    (ROOT / "action.yml", "github-actions"),
    (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml", "github-issue-forms"),
    (ROOT / ".github" / "ISSUE_TEMPLATE" / "idea.yml", "github-issue-forms"),
    (ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml", "github-issue-config"),
]


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.mark.parametrize(("path", "schema"), SCHEMAS, ids=lambda value: getattr(value, "name", value))
def test_it_follows_its_published_schema(path: Path, schema: str) -> None:
    done = subprocess.run(
        [_tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _steps(document: Any) -> Iterator[dict[str, Any]]:
    jobs = document.get("jobs", {"": document.get("runs", {})})
    for job in jobs.values():
        yield from job["steps"]


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "action.yml"], ids=lambda path: path.name)
def test_no_text_of_an_event_becomes_part_of_a_script_and_every_action_has_a_version(path: Path) -> None:
    steps = list(_steps(yaml.safe_load(path.read_text())))
    assert len(steps) > 2
    for step in steps:
        assert "${{" not in step.get("run", ""), step
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", step["uses"]), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_unless_a_job_needs_more(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert document["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in document["jobs"].values())


def _instructions() -> list[tuple[str, str]]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word and word != "#"]


def test_the_container_is_not_root_and_installs_what_is_pinned() -> None:
    instructions = _instructions()
    assert {word for word, _ in instructions} <= {
        *("FROM", "ENV", "RUN", "COPY", "VOLUME", "USER", "ENTRYPOINT", "CMD"),
    }
    for image in [rest.split()[0] for word, rest in instructions if word == "FROM"]:
        assert re.fullmatch(r"[\w/]+:\d[\w.-]+", image), image
    (user,) = [rest for word, rest in instructions if word == "USER"]
    assert all(int(part) > 0 for part in user.split(":"))
    (entry,) = [rest for word, rest in instructions if word == "ENTRYPOINT"]
    assert json.loads(entry) == ["sparekey"]
    installs = [rest for word, rest in instructions if word == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert "--require-hashes -r" in installs[0]
    assert "--no-deps --no-build-isolation --no-index" in installs[1]


def _python_for_everybody() -> str:
    """The system's Python where it can make environments: ours may lie in a home directory. Else ours."""
    for path in ("/usr/local/bin/python3", "/usr/bin/python3"):
        check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
        if (
            Path(path).exists()
            and not subprocess.run([path, "-c", check], capture_output=True, check=False).returncode
        ):
            return path
    return sys.executable


def _another_user(*places: Path) -> int | None:
    """A UID that owns nothing here, where one may be taken on and it could reach these places; else None."""
    every = {parent for place in places for parent in (place.resolve(), *place.resolve().parents)}
    return 12345 if os.geteuid() == 0 and all(place.stat().st_mode & 0o001 for place in every) else None


@pytest.mark.slow
def test_the_steps_of_the_container_make_a_sparekey_for_any_uid_without_home() -> None:
    """No container runtime is at hand: its steps are run in a plain folder, with its paths below that."""
    with tempfile.TemporaryDirectory(prefix="sparekey-container-") as folder:
        Path(folder).chmod(0o755)  # pytest's own folders are closed to other users
        _build_and_run(Path(folder))


def _build_and_run(root: Path) -> None:
    python = _python_for_everybody()
    (root / "build").mkdir(parents=True)
    (root / "opt").mkdir()
    for word, rest in _instructions():
        if word == "COPY" and "--from" not in rest:
            *sources, target = rest.split()
            for source in sources:
                destination = root / target.lstrip("/")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, destination, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(
                        ROOT / source,
                        destination / Path(source).name if target.endswith("/") else destination,
                    )
        elif word == "RUN" and "/state" not in rest:
            command = rest.replace("/opt/sparekey", f"{root}/opt/sparekey").replace("/build", f"{root}/build")
            command = re.sub(r"^python ", f"{python} ", command)
            done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
    state = root / "state"
    state.mkdir(mode=0o1777)
    state.chmod(0o1777)
    user = _another_user(root, Path(python))
    with Sandbox() as aws:
        env = {
            **aws.env(),
            "PATH": f"{root}/opt/sparekey/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SPAREKEY_HOME": f"{state}/home",
        }

        def run(*args: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                ["sparekey", *args], env=env, cwd="/", capture_output=True, text=True, check=False, user=user
            )

        version = run("--version")
        assert version.stdout.startswith("sparekey, version "), version.stderr
        audit = run("audit")
        assert audit.returncode == 3, audit.stderr
        made = run("plan", "-o", f"{state}/plan.json")
        assert made.returncode == 0, made.stderr
        applied = run("apply", f"{state}/plan.json", "--yes", "--no-watch")
        assert applied.returncode == 0, applied.stderr
        assert "Apply complete: 5 deactivated" in applied.stdout
        assert (state / "home").stat().st_uid == (os.geteuid() if user is None else user)


@pytest.mark.slow
def test_the_action_writes_reports_a_summary_and_its_exit_code(tmp_path: Path) -> None:
    with Sandbox() as aws:
        env = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("AWS_", "SPAREKEY_"))
            },
            **aws.env(),
            "SPAREKEY": _tool("sparekey"),
            "SPAREKEY_HOME": str(tmp_path / "home"),
            "ACTION_PATH": str(ROOT),
            "ORGANIZATION_ROLE": "",
            "RULES": "two-active-keys old-key",
            "AWS_REGION": "us-east-1",
            "REPORTS": str(tmp_path / "reports"),
            "VENV": str(tmp_path / "venv"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
        }
        done = subprocess.run(
            [ROOT / "tools" / "audit-action"], env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text() == "exit-code=3\n"
    assert "8 of 13 users have spare keys." in (tmp_path / "summary.md").read_text()
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {
        "audit.json",
        "audit.html",
        "audit.csv",
    }
    assert json.loads((tmp_path / "reports" / "audit.json").read_text())["rules"] == [
        "old-key",
        "two-active-keys",
    ]


def test_every_news_fragment_is_of_a_kind_that_the_changelog_has() -> None:
    kinds = "added|changed|fixed|removed|security"
    for path in (ROOT / "changes").iterdir():
        assert path.name == "README.md" or re.fullmatch(rf"[\w+-]+\.({kinds})\.md", path.name), path.name


def test_a_release_collects_the_fragments_above_the_last_version(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "+doors.added.md").write_text("A door.\n")
    done = subprocess.run(
        [_tool("towncrier"), "build", "--draft", "--version", "9.9.9", "--dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "## [9.9.9]" in done.stdout
    assert "- A door." in done.stdout
