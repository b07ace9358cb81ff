"""Keys in files: encrypted with age, and in a shared credentials file."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, cast

import pyrage  # type: ignore[import-untyped]
import pytest

from sparekey.aws.access_keys import NewAccessKey
from sparekey.aws.gateway import AccountGateway
from sparekey.handover.age import AgeFile
from sparekey.handover.interface import HandoverError, HandoverTools
from sparekey.handover.profile import ProfileCopy
from sparekey.policy import FieldError, Handover

OLD = NewAccessKey("AKIAIOSFODNN7EXAMPL2", "oldoldoldoldoldoldoldoldoldoldoldold/old")
NEW = NewAccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOOLS = HandoverTools(cast("AccountGateway", None), lambda _: cast("AccountGateway", None))


class AgeLab:
    """A file that Debian's age has encrypted, and the identity that opens it."""

    def __init__(self, folder: Path) -> None:
        identity = pyrage.x25519.Identity.generate()
        self.identity, self.file = folder / "identity.txt", folder / "key.age"
        self.identity.write_text(f"# a comment\n{identity}\n")
        self.identity.chmod(0o600)
        self.recipient = str(identity.to_public())
        content = {"AWS_ACCESS_KEY_ID": OLD.id, "AWS_SECRET_ACCESS_KEY": OLD.secret, "region": "eu-west-1"}
        subprocess.run(
            ["age", "-r", self.recipient, "-o", str(self.file)],
            input=json.dumps(content).encode(),
            check=True,
        )
        self.handover = Handover(
            user="app", store=f"age:{self.file}", recipients=(self.recipient,), identity=str(self.identity)
        )

    def store(self) -> AgeFile:
        AgeFile.check_place(str(self.file), self.handover)
        return AgeFile(str(self.file), self.handover, TOOLS)

    def by_age(self) -> dict[str, str]:
        """What a person reads with Debian's age."""
        shown = subprocess.run(
            ["age", "-d", "-i", str(self.identity), str(self.file)], capture_output=True, check=True
        )
        content: dict[str, str] = json.loads(shown.stdout)
        return content


@pytest.fixture
def age(tmp_path: Path) -> AgeLab:
    return AgeLab(tmp_path)


def test_what_is_published_is_read_by_debians_age_and_nothing_is_in_the_clear(
    age: AgeLab, tmp_path: Path
) -> None:
    store = age.store()
    assert store.check() == ()
    version = store.stage(NEW)
    assert age.by_age()["AWS_ACCESS_KEY_ID"] == OLD.id
    assert (store.staged(NEW.id), store.staged("AKIANOBODY"), store.read(version).secret) == (
        version,
        "",
        NEW.secret,
    )
    published = store.publish(version, NEW.id)
    assert age.by_age() == {
        "AWS_ACCESS_KEY_ID": NEW.id,
        "AWS_SECRET_ACCESS_KEY": NEW.secret,
        "region": "eu-west-1",
    }
    assert store.publish(version, NEW.id) == published
    assert store.read(published.previous).id == OLD.id
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert NEW.secret.encode() not in everything
    store.revert(published)
    store.revert(published)
    assert age.by_age()["AWS_ACCESS_KEY_ID"] == OLD.id


@pytest.mark.parametrize("step", ["Path.replace", "os.fsync"])
@pytest.mark.parametrize("which", range(4))
def test_a_crash_while_publishing_leaves_a_whole_file_and_repeating_completes_it(
    step: str, which: int, age: AgeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, count = age.store(), -1
    version = store.stage(NEW)
    owner: Any
    owner, name = (Path, "replace") if step == "Path.replace" else (os, "fsync")
    real = getattr(owner, name)

    def breaks(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == which:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(owner, name, breaks)
    try:
        store.publish(version, NEW.id)
    except KeyboardInterrupt:
        assert age.by_age()["AWS_ACCESS_KEY_ID"] in (OLD.id, NEW.id)
    monkeypatch.undo()
    published = store.publish(version, NEW.id)
    assert age.by_age()["AWS_SECRET_ACCESS_KEY"] == NEW.secret
    assert store.read(published.previous).id == OLD.id
    assert [path.name for path in age.file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_was_changed_meanwhile_is_not_overwritten(age: AgeLab) -> None:
    store = age.store()
    version = store.stage(NEW)
    content = {**age.by_age(), "region": "us-east-1"}
    subprocess.run(
        ["age", "-r", age.recipient, "-o", str(age.file)], input=json.dumps(content).encode(), check=True
    )
    with pytest.raises(HandoverError, match="other fields"):
        store.publish(version, NEW.id)
    store.discard(version)
    assert age.by_age()["region"] == "us-east-1"


def test_what_cannot_be_opened_is_one_sentence(age: AgeLab) -> None:
    other = pyrage.x25519.Identity.generate()
    age.identity.write_text(str(other))
    with pytest.raises(HandoverError, match="does not open it"):
        age.store().check()
    age.file.write_bytes(b"age-encryption.org/v1\nnonsense")
    with pytest.raises(HandoverError, match="it is damaged"):
        age.store().check()
    age.identity.chmod(0o644)
    with pytest.raises(HandoverError, match="others may read"):
        age.store().check()
    age.file.unlink()
    with pytest.raises(HandoverError, match="No such file"):
        age.store().check()


@pytest.mark.parametrize("change", [{"recipients": ()}, {"identity": ""}, {"recipients": ("age2x",)}])
def test_a_policy_that_age_cannot_work_with_is_refused(age: AgeLab, change: dict[str, object]) -> None:
    fields = {"user": "app", "store": "age:x", "recipients": (age.recipient,), "identity": "/i", **change}
    with pytest.raises(FieldError):
        AgeFile.check_place("/key.age", Handover(**fields))  # type: ignore[arg-type]


CREDENTIALS = f"""# kept as it is
[default]
aws_access_key_id = AKIADEFAULTDEFAULT22
aws_secret_access_key = other

[app]  ; of the nightly job
region = eu-west-1
aws_access_key_id = {OLD.id}
aws_secret_access_key={OLD.secret}
"""
HANDOVER = Handover(user="app", store="secretsmanager:app")


def credentials(folder: Path, text: str = CREDENTIALS, name: str = "credentials") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def profile(path: Path, name: str = "app") -> ProfileCopy:
    place = f"{path}#{name}"
    ProfileCopy.check_place(place, HANDOVER)
    return ProfileCopy(place, HANDOVER, TOOLS)


def test_a_profile_gets_the_pair_and_everything_else_stays(tmp_path: Path) -> None:
    path = credentials(tmp_path)
    copy = profile(path)
    assert copy.check() == ()
    copy.write(NEW)
    before = CREDENTIALS.replace(OLD.id, NEW.id).splitlines()[:-1]
    assert path.read_text().splitlines()[:-1] == before
    assert path.read_text().splitlines()[-1].replace(" ", "") == f"aws_secret_access_key={NEW.secret}"
    assert copy.read_back() == NEW.id
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["credentials"]


def test_a_config_file_calls_its_sections_profile(tmp_path: Path) -> None:
    path = credentials(tmp_path, CREDENTIALS.replace("[app]", "[profile app]"), "config")
    profile(path).write(NEW)
    assert profile(path).read_back() == NEW.id


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (CREDENTIALS, "nobody", "there is no profile nobody"),
        (CREDENTIALS + "role_arn = arn:aws:iam::1:role/r\n", "app", "has role_arn"),
        (CREDENTIALS.replace("aws_secret_access_key=", "x="), "app", "has no aws_secret_access_key"),
        (CREDENTIALS + "[app]\n", "app", "a section twice"),
        ("no section at all", "app", "is not a credentials file"),
    ],
)
def test_a_profile_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, text: str, name: str, message: str
) -> None:
    path = credentials(tmp_path, text)
    with pytest.raises(HandoverError, match=message) as caught:
        profile(path, name).check()
    assert OLD.secret not in caught.value.message
    assert path.read_text() == text


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = credentials(tmp_path)
    path.chmod(0o640)
    with pytest.raises(HandoverError, match="others may read") as caught:
        profile(path).write(NEW)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("place", ["", "#app", "file#", "file"])
def test_what_is_no_profile_is_refused_in_the_policy(place: str) -> None:
    with pytest.raises(FieldError):
        ProfileCopy.check_place(place, HANDOVER)
