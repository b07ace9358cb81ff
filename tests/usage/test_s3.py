"""An archive in a bucket, read through obstore from moto's server."""

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from sparekey import usage
from sparekey.aws.errors import NoCredentialsError
from sparekey.errors import BadInputError, UnreadError
from sparekey.model import Usage
from sparekey.usage.archive.s3_storage import S3Storage
from sparekey.usage.request import UsageRequest
from support.archive_samples import NEW, OLD, SESSIONS, file_name, mint, record


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port=port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    client = botocore.session.Session().create_client("s3", region_name="eu-central-1")
    yield client
    client.close()


def bucket(s3: Any, name: str, files: dict[str, bytes]) -> str:
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for path, data in files.items():
        s3.put_object(Bucket=name, Key=path, Body=data)
    return f"s3://{name}"


def log(*records: Any) -> bytes:
    return gzip.compress(json.dumps({"Records": records}).encode())


def read(place: str) -> Usage:
    (found,) = usage.read_usage(f"archive={place}", [OLD], UsageRequest(processes=1))
    return found


def test_a_bucket_is_read_like_a_folder(s3: Any) -> None:
    place = bucket(
        s3,
        "trail",
        {
            f"logs/{file_name(org='o-abc/')}": log(record(), mint(OLD, SESSIONS[0]), record(NEW)),
            f"logs/{file_name('20260111T0000Z', org='o-abc/')}": log(record(SESSIONS[0]), record()),
            f"logs/{file_name(unique='cut', org='o-abc/')}": log(record())[:-9],
            "other/AWSLogs/notes.json": b"not of this prefix",
        },
    )
    found = read(f"{place}/logs")
    assert (found.calls, found.sessions) == (3, 1)
    assert [entry.what for entry in found.unread] == [file_name(unique="cut", org="o-abc/")]
    assert found.source == "archive s3://trail/logs"


def test_a_folder_of_more_than_a_page_is_listed_to_its_end(s3: Any) -> None:
    place = S3Storage(bucket(s3, "pages", {}))
    kept = s3_backends["123456789012"]["aws"]
    for number in range(1001):
        kept.put_object("pages", f"day/{number:04d}.json", b"{}")
    kept.put_object("pages", "day/below/x.json", b"{}")
    folders, files, unread = place.children("day")
    assert folders == ["day/below"]
    assert unread == []
    assert files == [(f"day/{number:04d}.json", 2) for number in range(1001)]


def test_a_bucket_that_is_not_there_is_unread(s3: Any) -> None:
    with pytest.raises(UnreadError, match="s3://nowhere could not be listed: there is no such bucket"):
        read("s3://nowhere")


def test_an_object_that_is_gone_is_unread(s3: Any) -> None:
    place = S3Storage(bucket(s3, "gone", {}))
    ((name, error),) = place.fetch(["missing.json"])
    assert name == "missing.json"
    assert isinstance(error, OSError)
    assert "missing.json" in str(error)


def test_without_credentials_it_says_so(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(NoCredentialsError, match="no AWS credentials"):
        read("s3://trail")


def test_a_place_without_a_bucket_is_refused() -> None:
    with pytest.raises(BadInputError, match="names no bucket"):
        read("s3:///prefix")


def test_a_place_tells_no_secret() -> None:
    assert repr(S3Storage("s3://trail", "ops")) == (
        "S3Storage(url='s3://trail', profile='ops', region=None, endpoint=None)"
    )
