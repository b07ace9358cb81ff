"""A bucket is asked where botocore would ask for it, and what S3 refuses is an error that says so."""

import gzip
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sparekey import usage
from sparekey.errors import BadInputError, SparekeyError, UnreadError
from sparekey.model import Usage
from sparekey.usage.archive.s3_storage import S3Storage
from sparekey.usage.request import UsageRequest
from support.archive_samples import OLD, record

LISTING = (
    "<ListBucketResult><Name>b</Name><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>"
    "<Contents><Key>p/</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>0</Size></Contents>"
    "<Contents><Key>p/c.json.gz</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>99</Size></Contents>"
    "</ListBucketResult>"
)


class S3(http.server.ThreadingHTTPServer):
    """An S3 on loopback that is also the proxy for any host; it notes what it is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str]] = []
        self.regions: list[str] = []
        self.region = ""
        self.refusal: tuple[int, str, dict[str, str]] | None = None
        self.object: tuple[int, bytes] = (200, gzip.compress(json.dumps({"Records": [record()]}).encode()))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((url.hostname or self.headers["Host"], url.path))
        signed = self.headers["Authorization"].partition("Credential=")[2].split("/")[2]
        self.server.regions.append(signed)
        status, body, headers = self.choose(url.query, signed)
        self.send(status, headers, body)

    def do_HEAD(self) -> None:
        status, _, headers = self.server.refusal or (200, "", {})
        self.send(status, headers, b"")

    def choose(self, query: str, signed: str) -> tuple[int, bytes, dict[str, str]]:
        if self.server.refusal:
            status, refused, headers = self.server.refusal
            return status, refused.encode(), headers
        if self.server.region and signed != self.server.region:
            code = "AuthorizationHeaderMalformed"
            answer = f"<Error><Code>{code}</Code><Region>{self.server.region}</Region></Error>"
            return 400, answer.encode(), {}
        if "list-type" in query:
            return 200, LISTING.encode(), {}
        status, body = self.server.object
        return status, body, {}

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        more = {"ETag": '"x"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        for name, value in {**more, **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    for name in (
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in (
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    server = S3()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def read(url: str = "s3://trail-bucket/p", **options: Any) -> Usage:
    (found,) = usage.read_usage(f"archive={url}", [OLD], UsageRequest(processes=1, **options))
    return found


KEYS = "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = testing\n"
CONFIG = """
[default]
region = eu-west-3
[profile own]
KEYS
endpoint_url = {url}
[profile service]
KEYS
services = here
[services here]
s3 =
  endpoint_url = {url}
[profile path]
KEYS
region = eu-west-3
s3 =
  addressing_style = path
[profile virtual]
KEYS
region = eu-west-3
s3 =
  addressing_style = virtual
""".replace("KEYS\n", KEYS)


@pytest.mark.parametrize(
    ("variable", "profile"),
    [("AWS_ENDPOINT_URL", None), ("AWS_ENDPOINT_URL_S3", None), ("", "own"), ("", "service")],
)
def test_an_endpoint_is_taken_however_it_is_named(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, profile: str | None
) -> None:
    (tmp_path / "config").write_text(CONFIG.format(url=s3.url))
    if variable:
        monkeypatch.setenv(variable, s3.url)
    assert read(profile=profile, region="eu-central-1").calls == 1
    assert {host for host, _ in s3.asked} == {f"127.0.0.1:{s3.server_port}"}
    assert s3.asked[-1][1] == "/trail-bucket/p/c.json.gz"
    assert set(s3.regions) == {"eu-central-1"}
    if profile:
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
        found = S3Storage("s3://trail-bucket/p", profile, "eu-central-1")
        monkeypatch.setattr("botocore.client.BaseClient._make_request", _answered)
        assert found._found.endpoint == "https://trail-bucket.s3.eu-central-1.amazonaws.com"


def _answered(client: Any, model: Any, request: dict[str, Any], context: Any) -> Any:
    """Sign as botocore does, and answer an empty listing without a network."""
    client._endpoint.create_request(request, model)

    class Ok:
        status_code = 200

    return Ok(), {}


@pytest.mark.parametrize(
    ("bucket", "settings", "host", "region"),
    [
        ("trail-bucket", {"AWS_REGION": "eu-central-1"}, "*.s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("trail-bucket", {"AWS_DEFAULT_REGION": "eu-west-1"}, "*.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("trail-bucket", {}, "*.s3.eu-west-3.amazonaws.com", "eu-west-3"),
        ("trail-bucket", {"AWS_PROFILE": "path"}, "s3.eu-west-3.amazonaws.com", "eu-west-3"),
        ("my.trail.bucket", {}, "s3.eu-west-3.amazonaws.com", "eu-west-3"),
        ("trail-bucket", {"AWS_REGION": "cn-north-1"}, "*.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        (
            "trail-bucket",
            {"AWS_REGION": "eusc-de-east-1"},
            "*.s3.eusc-de-east-1.amazonaws.eu",
            "eusc-de-east-1",
        ),
        (
            "trail-bucket",
            {"AWS_REGION": "us-gov-west-1", "AWS_USE_FIPS_ENDPOINT": "true"},
            "*.s3-fips.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
        ),
        (
            "trail-bucket",
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "*.s3.dualstack.eu-west-3.amazonaws.com",
            "eu-west-3",
        ),
    ],
)
def test_a_bucket_is_where_botocore_says(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    bucket: str, settings: dict[str, str], host: str, region: str,
) -> None:  # fmt: skip
    (tmp_path / "config").write_text(CONFIG)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.client.BaseClient._make_request", _answered)
    found = S3Storage(f"s3://{bucket}/p")._found
    assert (found.endpoint, found.region) == (f"https://{host.replace('*', bucket)}", region)
    assert found.virtual == host.startswith("*")


def test_through_a_proxy_both_ask_the_bucket_at_its_own_host(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(CONFIG)
    monkeypatch.setenv("HTTP_PROXY", s3.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.test")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")  # a setting of obstore's alone
    assert read(profile="virtual").calls == 1
    assert {host for host, _ in s3.asked} == {"trail-bucket.s3.example.test"}
    assert [path for _, path in s3.asked][-1] == "/p/c.json.gz"


def test_a_host_that_needs_no_proxy_is_asked_without_one(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    assert read().calls == 1


def test_a_bucket_of_another_region_is_found_there(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", s3.url)
    s3.region = "eu-north-1"
    redirected = "botocore.utils.S3RegionRedirectorv2.set_request_url"
    monkeypatch.setattr(redirected, lambda _, old, new, **__: old)  # a custom endpoint stays where it is
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.test")
    assert read(region="eu-central-1").calls == 1
    assert s3.regions[0] == "eu-central-1"
    assert set(s3.regions[1:]) == {"eu-north-1"}


@pytest.mark.parametrize(
    ("status", "code", "headers", "why"),
    [
        (403, "AccessDenied", {}, "access denied: s3:ListObjectsV2"),
        (403, "InvalidAccessKeyId", {}, "InvalidAccessKeyId"),
        (400, "ExpiredToken", {}, "expired"),
        (404, "NoSuchBucket", {}, "there is no such bucket"),
        (301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-1"}, "the bucket is in region eu-west-1"),
        (301, "PermanentRedirect", {"x-amz-bucket-region": "nowhere at all"}, "could not be listed"),
        (307, "TemporaryRedirect", {"x-amz-bucket-region": "eu-west-1"}, "the bucket is in region eu-west-1"),
        (503, "SlowDown", {}, "too many requests"),
    ],
)
def test_what_s3_refuses_is_said(
    s3: S3, monkeypatch: pytest.MonkeyPatch, status: int, code: str, headers: dict[str, str], why: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    s3.refusal = status, f"<Error><Code>{code}</Code><Message>x</Message></Error>", headers
    with pytest.raises(UnreadError) as refused:
        read(region="eu-central-1")
    assert refused.value.message.startswith("s3://trail-bucket/p could not be listed: ")
    assert why in refused.value.message


def test_a_server_that_is_not_there_is_an_error(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:secret@127.0.0.1:9")
    with pytest.raises(UnreadError, match="could not be listed: AWS cannot be reached") as refused:
        read()
    assert refused.value.hint


@pytest.mark.parametrize("code", ["InvalidObjectState", "AccessDenied"])
def test_an_object_that_cannot_be_had_is_named(s3: S3, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """In Glacier, or encrypted with a key that these credentials may not use."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    s3.object = 403, f"<Error><Code>{code}</Code><Message>x</Message></Error>".encode()
    found = read()
    assert [entry.what for entry in found.unread] == ["c.json.gz"]
    assert "403" in found.unread[0].why


def test_an_object_of_any_size_is_not_fetched(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    monkeypatch.setattr("sparekey.usage.archive.s3_storage.LARGEST", 9)
    assert [entry.why for entry in read().unread] == ["larger than 512 MiB"]


def test_other_processes_read_the_same_bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparekey.usage.sources import archive

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    monkeypatch.setattr(archive, "_POOL_FROM", {"spawn": 0})
    monkeypatch.setattr(archive, "_start_method", lambda: "spawn")
    (found,) = usage.read_usage("archive=s3://trail-bucket/p", [OLD], UsageRequest(processes=2))
    assert (found.calls, found.unread) == (1, ())
    assert len(s3.asked) == 3  # where it is, what is there, and the file


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, ca: bool
) -> bytes:
    """A certificate for 127.0.0.1, as PEM."""
    subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer))
    now = datetime.now(UTC)
    host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


@pytest.fixture
def trusted(tmp_path: Path) -> tuple[Path, Path]:
    """An authority that nobody else trusts, and a server's certificate by it with its key."""
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority, server = tmp_path / "ca.pem", tmp_path / "server.pem"
    authority.write_bytes(certificate("authority", root, "authority", root, ca=True))
    secret = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server.write_bytes(certificate("loopback", leaf, "authority", root, ca=False) + secret)
    return authority, server


def test_certificates_are_those_of_the_configuration(
    s3: S3, trusted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted[1])
    s3.socket = context.wrap_socket(s3.socket, server_side=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url.replace("http:", "https:"))
    with pytest.raises(UnreadError, match="could not be listed"):
        read()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(trusted[0]))
    assert read().calls == 1


def test_certificates_that_are_not_there_are_an_error(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere.pem")
    found = S3Storage("s3://trail-bucket")
    with pytest.raises(BadInputError, match=r"/nowhere\.pem could not be read"):
        found._transport("https://s3.example.test")


@pytest.mark.parametrize(
    "setting", ["credential_process = /nowhere/helper", "role_arn = x\nsource_profile = y"]
)
def test_credentials_that_cannot_be_had_are_an_error(s3: S3, tmp_path: Path, setting: str) -> None:
    (tmp_path / "config").write_text(f"[profile broken]\n{setting}\n")
    with pytest.raises(SparekeyError):
        read(profile="broken")
    assert s3.asked == []


@pytest.mark.parametrize("good", [0, 1])
def test_what_a_credential_helper_prints_is_not_shown(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    helper, config, count = tmp_path / "helper", tmp_path / "leaky", tmp_path / "count"
    count.write_text("")
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()  # so it is asked again at once
    answer = {
        "Version": 1,
        "AccessKeyId": OLD,
        "SecretAccessKey": "x",
        "SessionToken": "t",
        "Expiration": soon,
    }
    helper.write_text(
        f"#!/bin/sh\necho >> {count}\nif [ $(wc -l < {count}) -le {good} ]; then echo '{json.dumps(answer)}'\n"
        "else echo 'the password is hunter2' >&2; exit 1; fi\n"
    )
    helper.chmod(0o700)
    config.write_text(f"[profile leaky]\nregion = us-east-1\ncredential_process = {helper}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "leaky")
    with pytest.raises(SparekeyError) as failed:
        usage.read_usage("archive=s3://b/p", [OLD], UsageRequest())
    assert count.read_text().count("\n") == good + 1
    assert "'leaky' (credential_process) ended with an error" in failed.value.message
    assert "hunter2" not in f"{failed.value.message} {failed.value.hint}"
