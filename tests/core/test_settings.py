"""Where the state directory is, where there is none, and whose policy is read."""

import os
import pwd
from pathlib import Path

import pytest

from sparekey.errors import BadInputError, RefusedError
from sparekey.policy import Policy, PolicyError
from sparekey.settings import NoStateDirectoryError, load_policy, state_directory


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in the password file, as in containers."""

    def unknown(_: object) -> object:
        raise KeyError("uid not found")

    for name in ("HOME", "SPAREKEY_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


@pytest.mark.usefixtures("nobody")
def test_without_a_home_there_is_no_state_and_the_policy_is_the_default() -> None:
    assert load_policy(None) == Policy()
    with pytest.raises(NoStateDirectoryError, match="there is no state directory") as received:
        state_directory()
    assert "SPAREKEY_HOME" in received.value.hint


@pytest.mark.usefixtures("nobody")
def test_a_named_directory_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAREKEY_HOME", "~nobody-of-this-name/state")
    with pytest.raises(
        NoStateDirectoryError, match=r"SPAREKEY_HOME \(~nobody-of-this-name/state\) names no directory"
    ):
        load_policy(None)


def test_a_name_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAREKEY_HOME", os.fsdecode(b"/tmp/\xff"))
    with pytest.raises(BadInputError, match="not UTF-8"):
        state_directory()


@pytest.mark.parametrize("where", ["none/there", "file/state"])
def test_no_policy_where_the_directory_cannot_be(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPAREKEY_HOME", str(tmp_path / where))
    assert load_policy(None) == Policy()
    with pytest.raises(BadInputError, match="there is no policy file"):
        load_policy(tmp_path / where / "sparekey.toml")


def test_a_policy_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAREKEY_HOME", str(tmp_path))
    (tmp_path / "sparekey.toml").mkdir()
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(None)


def test_a_directory_that_others_may_write_promises_no_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAREKEY_HOME", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o770)
    with pytest.raises(RefusedError, match="others may write the state directory"):
        load_policy(None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("theirs", ["file", "directory", "link"])
def test_a_policy_of_another_user_is_refused(
    theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAREKEY_HOME", str(tmp_path))
    path, real = tmp_path / "sparekey.toml", tmp_path / "real.toml"
    real.write_text('settle = "8d"\n')
    real.chmod(0o600)
    path.symlink_to(real)
    assert load_policy(None).settle != Policy().settle
    stranger = {"file": real, "directory": tmp_path, "link": path}[theirs]
    os.chown(stranger, 65534, 65534, follow_symlinks=False)
    with pytest.raises(RefusedError, match=r"belongs to|is a link that"):
        load_policy(None)


def test_a_policy_of_nobody_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparekey.toml"
    path.touch(mode=0o600)
    os.chown(path, 65533 if os.geteuid() == 0 else -1, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 65532)
    with pytest.raises(RefusedError, match=f"the policy file {path} belongs to") as received:
        load_policy(path)
    assert "chown 65532" in received.value.hint
