"""The settings of the channels, read from the environment when a run starts."""

from collections.abc import Mapping

from sparekey.errors import BadInputError
from sparekey.notify.interface import NotifySettings, Publisher, Tls

_TLS: Mapping[str, Tls] = {"starttls": "starttls", "tls": "tls", "none": "none"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def settings_from(environ: Mapping[str, str], publish: Publisher | None = None) -> NotifySettings:
    """Settings from SPAREKEY_SMTP_HOST, _PORT, _TLS, _USER, _PASSWORD and SPAREKEY_MAIL_FROM.

    Raises BadInputError.
    """
    named = environ.get("SPAREKEY_SMTP_TLS", "starttls")
    tls = _TLS.get(named)
    if tls is None:
        raise BadInputError(f"SPAREKEY_SMTP_TLS is {named!r}", "Write starttls, tls or none.")
    port = environ.get("SPAREKEY_SMTP_PORT", "465" if tls == "tls" else "587")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise BadInputError(f"SPAREKEY_SMTP_PORT is {port!r}", "Write a port number: 587.")
    settings = NotifySettings(
        publish=publish,
        smtp_host=environ.get("SPAREKEY_SMTP_HOST", ""),
        smtp_port=int(port),
        smtp_tls=tls,
        smtp_user=environ.get("SPAREKEY_SMTP_USER", ""),
        smtp_password=environ.get("SPAREKEY_SMTP_PASSWORD", ""),
        mail_from=environ.get("SPAREKEY_MAIL_FROM", ""),
    )
    if tls == "none" and settings.smtp_host and not is_loopback(settings.smtp_host):
        raise BadInputError(
            f"mail to {settings.smtp_host} would go out unencrypted", "Use SPAREKEY_SMTP_TLS=starttls or tls."
        )
    return settings


def is_loopback(host: str) -> bool:
    """True for this machine itself."""
    return host in _LOOPBACK
