"""`sparekey console` as a person starts it."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest


def start(*args: str, home: Path) -> "subprocess.Popen[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPAREKEY_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "sparekey", "console", *args],
        env={
            **env,
            "SPAREKEY_HOME": str(home),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_address_stands_alone_on_stdout_and_opens(tmp_path: Path) -> None:
    with start("--demo", "--no-browser", home=tmp_path) as process:
        assert process.stdout
        address = process.stdout.readline().rstrip("\n")
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert "sparekey" in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=10)
        assert refused.value.code == 403
        refused.value.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert out == ""
    assert "practice company" in err
    assert "Traceback" not in err
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("args", "code", "received"),
    [
        (["--no-browser"], 1, "error:"),
        (["--demo", "--no-browser", "--port", "1", "--host", "192.0.2.1"], 2, "cannot listen"),
        (["--port", "70000"], 2, "--port"),
    ],
    ids=["no-credentials", "cannot-listen", "no-port"],
)
def test_what_cannot_start_says_why(args: list[str], code: int, received: str, tmp_path: Path) -> None:
    with start(*args, home=tmp_path) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert received in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_token_is_in_no_command_line(tmp_path: Path) -> None:
    """Another user of the machine can read the browser's arguments, and so learns only a file's name."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {seen}.part\nmv {seen}.part {seen}\n')
    browser.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROWSER", f"{browser} %s")
        patch.setenv("TMPDIR", str(tmp_path))
        with start("--demo", home=tmp_path) as process:
            assert process.stdout
            address = process.stdout.readline().rstrip("\n")
            for _ in range(200):
                if seen.exists():
                    break
                time.sleep(0.05)
            (argument,) = seen.read_text().split()
            page = Path(argument.removeprefix("file://"))
            assert page.stat().st_mode & 0o777 == 0o600
            assert address in page.read_text()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
    assert address.partition("token=")[2] not in argument
    assert not page.exists()
