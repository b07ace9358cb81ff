"""What a notification channel is: a module here with the names of `Channel`.

A target is `SCHEME:ADDRESS`, such as `slack:https://hooks.slack.com/…`, `webhook:https://…`, `sns:arn:aws:sns:…` or
`mailto:ops@example.com`. Addresses of webhooks are secrets: no error and no failure shows one.
"""

from typing import Literal, Protocol

import msgspec

from sparekey.errors import SparekeyError
from sparekey.notify._messages import Message

Tls = Literal["starttls", "tls", "none"]


class NotifyError(SparekeyError):
    """A notification failed."""


class Publisher(Protocol):
    """Publishes to an SNS topic; raises SparekeyError."""

    def __call__(self, topic: str, subject: str, text: str) -> None:
        """Publish one message to the topic with this ARN."""
        ...


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The SMTP server and the SNS client; `timeout` is in seconds, for each wait on the network."""

    publish: Publisher | None = None
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_tls: Tls = "starttls"
    smtp_user: str = ""
    smtp_password: str = ""
    mail_from: str = ""
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"Settings(smtp_host={self.smtp_host!r})"  # the password shows nowhere


class Channel(Protocol):
    """A module of this folder; `SCHEME` is what stands before the first colon of a target."""

    SCHEME: str

    def check(self, address: str, settings: NotifySettings) -> None:
        """Raise BadInputError for an address that cannot work, without sending anything."""
        ...

    def redacted(self, address: str) -> str:
        """The address as it may be shown."""
        ...

    def send(self, address: str, message: Message, settings: NotifySettings) -> None:
        """Send one message; raises NotifyError, or another SparekeyError."""
        ...
