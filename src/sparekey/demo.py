"""The whole job on a practice AWS, stage by stage; every command shown is really run."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from os import environ
from pathlib import Path
from shutil import get_terminal_size
from textwrap import indent

from sparekey.errors import SparekeyError
from sparekey.sandbox import Sandbox

_POLICY = """\
[[exempt]]
user = "partner-sftp"
owner = "integrations@practice.example"
reason = "the partner swaps its key by post"
expires = {expires}
"""


# Plays a rotation at so many columns: what is done, and what is seen.
Rotation = Callable[[int], Iterator[tuple[str, str]]]


class DemoError(SparekeyError):
    """A stage of the demo ended otherwise than it should."""

    default_hint = "This is a defect of sparekey, not of your machine: please report what is printed above."


@contextmanager
def practice_console() -> Iterator[tuple[Path, dict[str, str]]]:
    """Serve the practice company; yields a folder and the environment that points sparekey at both."""
    with Sandbox() as aws, tempfile.TemporaryDirectory(prefix="sparekey-demo-") as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        expires = datetime.now(UTC).date() + timedelta(days=60)
        policy = home / "sparekey.toml"
        policy.write_text(_POLICY.format(expires=expires))
        policy.chmod(0o600)
        kept = {name: value for name, value in environ.items() if not name.startswith(("AWS_", "SPAREKEY_"))}
        yield Path(folder), {**kept, **aws.env(), "SPAREKEY_HOME": str(home)}


def demo(rotation: Rotation) -> Iterator[str]:
    """Run audit, plan, apply and undo of one key on the practice company, then a rotation; yields the text."""
    with practice_console() as (folder, env):
        yield from _Demo(env, folder, rotation).stages()


class _Demo:
    def __init__(self, env: Mapping[str, str], folder: Path, rotation: Rotation) -> None:
        self._folder, self._rotation = folder, rotation
        columns = str(min(get_terminal_size((120, 24)).columns, 140))
        self._env = {**env, "COLUMNS": columns}

    def stages(self) -> Iterator[str]:
        """Each stage: what is done, why, and what is seen."""
        yield _heading(
            "A practice AWS", "A small company with thirteen IAM users runs on this machine's loopback."
        )
        yield _stage("1. Audit", "Read every IAM user and access key. Nothing is changed.")
        yield from self._run("audit", "--cis", "4.0", expect=3)
        yield _why("Seven users fail the control; partner-sftp has an exemption. Exit code 3 is for scripts.")
        yield _stage(
            "2. Plan", "Which key is kept, which are deactivated, and why. Still nothing is changed."
        )
        yield from self._run("plan", "-o", "plan.json", expect=0)
        yield _why(
            "Only keys not used for 45 days are deactivated, beside a key that works or, where no key was used,\n"
            "the newest young one. billing-export uses both keys: which application still has the old one\n"
            "must be shown first. etl-nightly has only old keys: rotate first. mobile-api began a rotation\n"
            "an hour ago."
        )
        yield _stage("3. Apply", "Read each user again, deactivate the spare keys, read until confirmed.")
        yield from self._run("apply", "plan.json", "--yes", expect=0)
        yield _why("Every key of the plan is confirmed Inactive. The commands to revert were printed first.")
        yield _stage("4. Confirm", "The audit again: the users that are left.")
        yield from self._run("audit", expect=3)
        yield _stage("5. Undo one key", "An application needs the old key of legacy-reports: reactivate it.")
        listed = "".join(chunk for chunk in self._run("runs", expect=0))
        yield listed
        run = _first(r"\br-[0-9a-z]+\b", listed)
        key = self._key_of(run, "legacy-reports")
        yield from self._run("undo", run, "--key", key, expect=0)
        yield _stage(
            "6. Evidence", "What was intended and done; each entry holds the hash of the one before."
        )
        yield from self._run("show", run, expect=0)
        yield _stage(
            "7. Rotate",
            "Another user, etl-nightly, has two old keys. The practice clock is turned forward for this: sixteen\n"
            "days pass in seconds, and the application reads its key from Secrets Manager all the while.",
        )
        for title, shown in self._rotation(int(self._env["COLUMNS"])):
            yield f"# {title}\n{shown}\n"
        yield _why("One key, young and in use. At no time was the application without a key that works.")
        yield _heading(
            "Now on your own account",
            "With your usual AWS credentials; the first two only read:\n\n"
            "    sparekey audit\n    sparekey plan -o plan.json\n    sparekey apply plan.json",
        )

    def _run(self, *args: str, expect: int) -> Iterator[str]:
        yield f"$ sparekey {' '.join(args)}\n"
        done = self._call(*args)
        yield done.stdout
        if done.returncode != expect:
            raise DemoError(f"`sparekey {' '.join(args)}` ended with {done.returncode}, not {expect}")
        yield f"[exit code {done.returncode}]\n"

    def _call(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603  # our own command, no shell
            [sys.executable, "-m", "sparekey", *args],
            env=self._env,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _key_of(self, run: str, user: str) -> str:
        shown = self._call("show", run).stdout
        line = next((line for line in shown.splitlines() if user in line), "")
        return _first(r"\bAKIA[0-9A-Z]{16}\b", line)


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if not match:
        raise DemoError(f"nothing like {pattern} was printed")
    return match[0]


def _heading(title: str, text: str) -> str:
    return f"\n{title}\n{'=' * len(title)}\n{text}\n"


def _stage(title: str, text: str) -> str:
    return f"\n{title}\n{'-' * len(title)}\n{text}\n\n"


def _why(text: str) -> str:
    return "\n" + indent(text, "  ") + "\n"
