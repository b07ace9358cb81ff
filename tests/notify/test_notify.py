"""Notifications against real servers on loopback; what fails is told and shows no secret."""

import json
import re
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sparekey import notify
from sparekey.errors import BadInputError, UnreadError
from sparekey.notify import DeliveryFailure, Message, NotifySettings
from support import sample_company as company

MESSAGE = Message("sparekey: two <lines>", "one & only\n日本", "run", True, {"run": "r1", "held": 2})
SECRET = "T0000-B0000-hush"


class Web(HTTPServer):
    """Keeps what is posted; answers by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.posted: list[tuple[str, Any]] = []


class _Post(BaseHTTPRequestHandler):
    server: Web
    timeout = 5

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, json.loads(body)))
        if "slow" in self.path:
            time.sleep(0.6)
        self.send_response(int(self.path[1:4]))
        self.send_header("Location", "/200/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        pass


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    with serving(server):
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    day = timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - day)
        .not_valid_after(datetime.now(UTC) + day)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        made.public_bytes(encoding)
        + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


def url(web: Web, answer: int = 200, more: str = "", scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{web.server_address[1]}/{answer}/{SECRET}{more}?token={SECRET}"


def send(
    target: str, settings: NotifySettings | None = None, message: Message = MESSAGE
) -> tuple[DeliveryFailure, ...]:
    return notify.send([target], message, settings or NotifySettings(timeout=5))


def test_a_webhook_gets_the_message_and_its_data(web: Web) -> None:
    assert send(f"webhook:{url(web)}") == ()
    ((path, received),) = web.posted
    assert path == f"/200/{SECRET}?token={SECRET}"
    assert received == {
        "schema": "sparekey/message/1",
        "event": "run",
        "urgent": True,
        "subject": MESSAGE.subject,
        "text": MESSAGE.text,
        "data": {"run": "r1", "held": 2},
    }


def test_slack_gets_text_that_it_neither_links_nor_formats(web: Web) -> None:
    message = msgspec.structs.replace(MESSAGE, subject="<!channel> & co", text="x" * 5000)
    assert send(f"slack:{url(web)}", message=message) == ()
    ((_, received),) = web.posted
    assert received["text"] == ":warning: &lt;!channel&gt; &amp; co"
    assert {block["text"]["type"] for block in received["blocks"]} == {"plain_text"}
    assert [len(block["text"]["text"]) for block in received["blocks"]] == [25, 3000]


@pytest.mark.parametrize(
    ("answer", "more", "why"),
    [
        (500, "", "127.0.0.1 answered HTTP 500"),
        (404, "", "127.0.0.1 answered HTTP 404"),
        (302, "", "127.0.0.1 answered HTTP 302"),
        (307, "", "127.0.0.1 answered HTTP 307"),
        (200, "slow", "127.0.0.1 could not be reached: it did not answer in time"),
    ],
)
def test_a_failing_webhook_is_told_without_its_secret(web: Web, answer: int, more: str, why: str) -> None:
    failed = send(f"slack:{url(web, answer, more)}", NotifySettings(timeout=0.2))
    assert failed == (DeliveryFailure("slack:127.0.0.1", why),)
    assert len(web.posted) == 1  # no redirect is followed


def test_nobody_listening_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (failed,) = send(f"webhook:http://127.0.0.1:{port}/{SECRET}")
    assert failed == DeliveryFailure(
        "webhook:127.0.0.1", "127.0.0.1 could not be reached: Connection refused"
    )


@pytest.mark.parametrize(
    "target",
    [
        f"webhook:http://example.com/{SECRET}",
        f"slack:ftp://127.0.0.1/{SECRET}",
        f"webhook:https://user:{SECRET}@[::1/x",
        f"webhook:https://example.com:{SECRET}/",
        f"webhook:file:///{SECRET}",
        f"webhook:{SECRET}",
        f"webhook:https://127.0.0.1:1/{SECRET} {SECRET}\r\nX: y",
        f"pager:{SECRET}",
        SECRET,
        "",
        "sns:topic",
        "sns:arn:aws:sns:eu-west-1:111122223333:ops",
        "mailto:nobody",
        "mailto:a@example.com?bcc=b@example.com",
        "mailto:a@example.com\r\nBcc: b@example.com",
    ],
)
def test_a_target_that_cannot_be_told_is_a_failure_and_no_exception(target: str) -> None:
    (failed,) = send(target, NotifySettings(smtp_host="127.0.0.1", mail_from="a@example.com", timeout=1))
    assert SECRET not in repr(failed)
    assert failed.why


def test_a_wrong_target_is_refused_before_a_run() -> None:
    for target in ("webhook:http://example.com/x", "pager:1", "mailto:a@example.com", "sns:topic"):
        with pytest.raises(BadInputError):
            notify.check([target], NotifySettings())
    notify.check(
        ["slack:https://hooks.slack.com/services/x", "webhook:http://localhost:1/x"], NotifySettings()
    )


def test_one_failure_stops_no_other(web: Web) -> None:
    failed = notify.send(
        [f"slack:{url(web, 500)}", "nonsense", f"webhook:{url(web)}"], MESSAGE, NotifySettings()
    )
    assert [failure.target for failure in failed] == ["slack:127.0.0.1", "a target of an unknown kind"]
    assert len(web.posted) == 2


def test_an_unknown_failure_is_told_by_its_kind_alone() -> None:
    def broken(topic: str, subject: str, text: str) -> None:
        raise ZeroDivisionError(SECRET)

    (failed,) = send("sns:arn:aws:sns:eu-west-1:111122223333:ops", NotifySettings(publish=broken))
    assert failed.why == "unexpected error: ZeroDivisionError"


def test_https_is_spoken_and_an_untrusted_certificate_refused(
    web: Web, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.socket = context(certificate).wrap_socket(web.socket, server_side=True)
    (failed,) = send(f"webhook:{url(web, scheme='https')}")
    assert "its certificate is not trusted" in failed.why
    assert SECRET not in repr(failed)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert send(f"webhook:{url(web, scheme='https')}") == ()
    assert len(web.posted) == 1


def test_sns_is_published_in_what_it_takes() -> None:
    published: list[tuple[str, str, str]] = []
    settings = NotifySettings(publish=lambda topic, subject, text: published.append((topic, subject, text)))
    message = msgspec.structs.replace(MESSAGE, subject="שלום " * 40, text="ש" * 200_000)
    topic = "arn:aws-us-gov:sns:us-gov-west-1:111122223333:ops"
    assert send(f"sns:{topic}", settings, message) == ()
    ((named, subject, text),) = published
    assert named == topic
    assert subject.isascii()
    assert len(subject) < 100
    assert text == "ש" * 100_000

    def denied(topic: str, subject: str, text: str) -> None:
        raise UnreadError("AccessDenied: not allowed to call sns:Publish")

    (failed,) = send(f"sns:{topic}", NotifySettings(publish=denied))
    assert failed == DeliveryFailure(f"sns:{topic}", "AccessDenied: not allowed to call sns:Publish")


class Mail(socketserver.ThreadingTCPServer):
    """An SMTP server of a dozen verbs; `answers` overrides what it says to one."""

    daemon_threads = True

    def __init__(
        self,
        certificate: Path | None = None,
        answers: dict[str, str] | None = None,
        *,
        wrapped: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.tls = context(certificate) if certificate else None
        if wrapped and self.tls:
            self.socket = self.tls.wrap_socket(self.socket, server_side=True)
        self.answers = answers or {}
        self.taken: list[EmailMessage] = []
        self.result: list[str] = []


class _Session(socketserver.StreamRequestHandler):
    server: Mail
    timeout = 5

    def handle(self) -> None:
        self.tell("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            self.server.result.append(line)
            if verb in self.server.answers:
                self.tell(self.server.answers[verb])
            elif verb == "EHLO":
                offers = ["AUTH PLAIN", *(["STARTTLS"] if self.server.tls else [])]
                self.tell("\r\n".join(["250-here", *(f"250-{offer}" for offer in offers), "250 SMTPUTF8"]))
            elif verb == "STARTTLS" and self.server.tls:
                self.tell("220 go on")
                try:
                    self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                except ssl.SSLError:
                    return
                self.setup()
            elif verb == "AUTH":
                self.tell("235 welcome")
            elif verb == "DATA":
                self.tell("354 go on")
                self.server.taken.append(self.mail())
                self.tell("250 taken")
            elif verb == "QUIT":
                self.tell("221 bye")
                return
            else:
                self.tell("250 fine")

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def tell(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def mail(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return message_from_bytes(b"".join(lines), policy=policy.default)


def settings_for(server: Mail, **more: Any) -> NotifySettings:
    received = {
        "smtp_host": "127.0.0.1",
        "smtp_port": server.server_address[1],
        "mail_from": "sparekey@example.com",
    }
    return NotifySettings(**{**received, "timeout": 2, **more})


def test_mail_arrives_whole() -> None:
    with serving(server := Mail()):
        message = msgspec.structs.replace(
            MESSAGE, subject="two\r\nBcc: evil@example.com", text="שלום\n.\nend"
        )
        assert (
            send("mailto:a@example.com, b@example.com", settings_for(server, smtp_tls="none"), message) == ()
        )
    (mail,) = server.taken
    assert mail["Subject"] == "two Bcc: evil@example.com"
    assert mail["Bcc"] is None
    assert (mail["To"], mail["From"]) == ("a@example.com, b@example.com", "sparekey@example.com")
    assert mail.get_content().split() == ["שלום", ".", "end"]
    assert [line for line in server.result if line.startswith("rcpt")] == [
        "rcpt TO:<a@example.com>",
        "rcpt TO:<b@example.com>",
    ]


def test_a_password_travels_encrypted_only(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"smtp_user": "ops", "smtp_password": SECRET}
    with serving(server := Mail()):  # offers no STARTTLS
        (failed,) = send("mailto:a@example.com", settings_for(server, **more))
    assert failed == DeliveryFailure(
        "mailto:a@example.com", "127.0.0.1 did not take the mail: SMTPNotSupportedError"
    )
    assert not [line for line in server.result if line.startswith("AUTH")]
    with serving(server := Mail(certificate)):
        (failed,) = send("mailto:a@example.com", settings_for(server, **more))
        assert failed.why.startswith("127.0.0.1 did not take the mail: its certificate is not trusted (")
        assert not [line for line in server.result if line.startswith("AUTH")]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert send("mailto:a@example.com", settings_for(server, **more)) == ()
    assert len(server.taken) == 1


def test_a_server_may_speak_tls_from_the_first_byte(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(server := Mail(certificate, wrapped=True)):
        settings = settings_for(server, smtp_tls="tls", smtp_user="ops", smtp_password=SECRET)
        assert send("mailto:a@example.com", settings, msgspec.structs.replace(MESSAGE, urgent=False)) == ()
    (mail,) = server.taken
    assert mail["Importance"] is None


def test_no_mail_server_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = NotifySettings(
            smtp_host="127.0.0.1", smtp_port=taken.getsockname()[1], mail_from="a@example.com"
        )
        (failed,) = send("mailto:a@example.com", settings)
    assert failed.why == "127.0.0.1 did not take the mail: Connection refused"


@pytest.mark.parametrize(
    ("verb", "answer", "why"),
    [
        ("AUTH", f"535 no, not with {SECRET}", "it answered 535"),
        ("RCPT", f"550 {SECRET}", "it refused a@example.com"),
        ("DATA", "451 later", "it answered 451"),
        ("EHLO", "", "the connection broke off, or it did not answer in time"),
    ],
)
def test_a_server_that_refuses_is_told_without_the_password(verb: str, answer: str, why: str) -> None:
    with serving(server := Mail(answers={verb: answer, "HELO": answer} if not answer else {verb: answer})):
        settings = settings_for(server, smtp_tls="none", smtp_user="ops", smtp_password=SECRET, timeout=0.4)
        if verb == "EHLO":
            server.answers["EHLO"] = "250-never ending"
        (failed,) = send("mailto:a@example.com", settings)
    assert failed == DeliveryFailure("mailto:a@example.com", f"127.0.0.1 did not take the mail: {why}")


def test_some_refused_addresses_are_named() -> None:
    class Choosy(_Session):
        def tell(self, line: str) -> None:
            last = self.server.result[-1] if self.server.result else ""
            super().tell("550 no" if last == "rcpt TO:<b@example.com>" and line == "250 fine" else line)

    server = Mail()
    server.RequestHandlerClass = Choosy
    with serving(server):
        (failed,) = send("mailto:a@example.com,b@example.com", settings_for(server, smtp_tls="none"))
    assert failed.why == "127.0.0.1 refused b@example.com"
    assert len(server.taken) == 1


def test_settings_come_from_the_environment() -> None:
    received = notify.settings_from(
        {
            "SPAREKEY_SMTP_HOST": "mail.example.com",
            "SPAREKEY_SMTP_TLS": "tls",
            "SPAREKEY_SMTP_USER": "ops",
            "SPAREKEY_SMTP_PASSWORD": SECRET,
            "SPAREKEY_MAIL_FROM": "sparekey@example.com",
        }
    )
    assert (received.smtp_host, received.smtp_port, received.smtp_password) == (
        "mail.example.com",
        465,
        SECRET,
    )
    assert SECRET not in repr(received)
    assert notify.settings_from({}).smtp_port == 587
    for wrong in (
        {"SPAREKEY_SMTP_TLS": "maybe"},
        {"SPAREKEY_SMTP_PORT": "mail"},
        {"SPAREKEY_SMTP_PORT": "0"},
        {"SPAREKEY_SMTP_HOST": "mail.example.com", "SPAREKEY_SMTP_TLS": "none"},
    ):
        with pytest.raises(BadInputError):
            notify.settings_from(wrong)


def test_every_channel_is_found() -> None:
    assert list(notify.registry()) == ["mailto", "slack", "sns", "webhook"]


def test_what_is_said_of_an_audit() -> None:
    received = notify.of_audit(company.audit())
    assert received.subject == "sparekey audit: 10 users with spare access keys"
    assert "42 users read, 1 could not be read; 2 accounts read, 1 could not be." in received.text
    assert f"{company.PROD}: 6 users" in received.text
    assert received.data["users_spare"] == 10
    assert not received.urgent


def test_what_is_said_of_a_run_names_what_needs_a_person() -> None:
    received = notify.of_run(company.run())
    assert received.subject == "sparekey run 20260301-1204-7f3a: watching"
    assert received.urgent
    assert "deploy-old AKIADEMO000000000005: failed: AccessDenied" in received.text
    assert "data-export" not in received.text
    assert received.data["failed"] == 1
    many = msgspec.structs.replace(company.run(), steps=company.run().steps[-1:] * 30)
    assert notify.of_run(many).text.endswith("… and 10 more")


def test_what_is_said_of_a_state_that_cannot_be_used() -> None:
    received = notify.of_state("host", "the state\x1b cannot be used", ("r-1",), ())
    assert received.subject.startswith("sparekey on host: the state")
    assert "\x1b" not in received.subject
    assert (received.event, received.urgent, received.data["watched"]) == ("state", True, "r-1")
    received = notify.of_state("host", "why", ("r-1",), ("r-2", "r-3"))
    assert received.subject == "NOT MONITORED: r-2, r-3: the state of sparekey on host cannot be used"
    assert (received.text, received.data["unwatched"]) == ("why", "r-2, r-3")


def test_what_is_said_of_a_rollback() -> None:
    run = company.run()
    received = notify.of_rollback(run, run.steps[2])
    assert re.fullmatch(
        r"sparekey reactivated AKIADEMO0{10}15 of <script>alert\(1\)</script> in \d{12}", received.subject
    )
    assert received.text.startswith("reactivated because a probe became unhealthy\n")
    assert (received.event, received.urgent, received.data["key"]) == ("rollback", True, run.steps[2].key)
    hidden = msgspec.structs.replace(run.steps[2], user=company.ESCAPE)
    assert "\x1b" not in notify.of_rollback(run, hidden).subject
