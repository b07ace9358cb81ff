"""E-mail over SMTP: `mailto:ops@example.com` (several parted by commas), encrypted unless sent within this machine."""

import smtplib
import ssl
from email.message import EmailMessage

from sparekey.errors import BadInputError
from sparekey.notify._messages import Message
from sparekey.notify.interface import NotifyError, NotifySettings

SCHEME = "mailto"


def check(address: str, settings: NotifySettings) -> None:
    """Raise BadInputError for what is no address, or where no server is set."""
    for recipient in _addresses(address):
        local, at, domain = recipient.partition("@")
        if not (local and at and domain) or not recipient.isprintable() or set(recipient) & set(' <>?&"'):
            raise BadInputError(f"{recipient!r} is no e-mail address", "Write mailto:ops@example.com")
    if not settings.smtp_host or not settings.mail_from:
        raise BadInputError(
            "mail needs a server and a sender",
            "Set SPAREKEY_SMTP_HOST and SPAREKEY_MAIL_FROM; docs/reference/reports.md",
        )


def redacted(address: str) -> str:
    """The addresses: they are no secret."""
    return address


def _addresses(address: str) -> list[str]:
    return [recipient.strip() for recipient in address.split(",")]


def send(address: str, message: Message, settings: NotifySettings) -> None:
    """Hand it to the server; raises NotifyError, which never holds the password."""
    mail = EmailMessage()
    mail["Subject"] = " ".join(message.subject.split())
    mail["From"] = settings.mail_from
    mail["To"] = ", ".join(_addresses(address))
    mail["Auto-Submitted"] = "auto-generated"
    if message.urgent:
        mail["Importance"] = "high"
    mail.set_content(message.text)
    try:
        with _connect(settings) as server:
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password)
            refused = server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        raise NotifyError(f"{settings.smtp_host} did not take the mail: {_failure_reason(error)}") from None
    if refused:
        raise NotifyError(f"{settings.smtp_host} refused {', '.join(sorted(refused))}")


def _connect(settings: NotifySettings) -> smtplib.SMTP:
    where = (settings.smtp_host, settings.smtp_port)
    if settings.smtp_tls == "tls":
        return smtplib.SMTP_SSL(*where, timeout=settings.timeout, context=ssl.create_default_context())
    server = smtplib.SMTP(*where, timeout=settings.timeout)
    if settings.smtp_tls == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def _failure_reason(error: Exception) -> str:
    match error:
        case smtplib.SMTPResponseException():
            return f"it answered {error.smtp_code}"
        case smtplib.SMTPRecipientsRefused():
            return f"it refused {', '.join(sorted(error.recipients))}"
        case smtplib.SMTPServerDisconnected():
            return "the connection broke off, or it did not answer in time"
        case TimeoutError():
            return "it did not answer in time"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case OSError() if error.strerror and not isinstance(error, smtplib.SMTPException):
            return error.strerror
        case _:
            return type(error).__name__
