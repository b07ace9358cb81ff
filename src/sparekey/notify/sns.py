"""An SNS topic: `sns:arn:aws:sns:eu-central-1:111122223333:ops`, published with the caller's credentials."""

import re

from sparekey.errors import BadInputError
from sparekey.notify._messages import Message
from sparekey.notify.interface import NotifySettings, Publisher

SCHEME = "sns"
_TOPIC = re.compile(r"arn:[a-z-]+:sns:[a-z0-9-]+:\d{12}:[\w-]{1,256}", re.ASCII)
_SUBJECT = 100  # https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: ASCII, one line, under 100
_LONGEST = 200_000  # bytes; a message may have 256 KiB


def check(address: str, settings: NotifySettings) -> None:
    """Raise BadInputError for what is no topic, or where nobody publishes."""
    if not _TOPIC.fullmatch(address):
        raise BadInputError(
            f"{address!r} is no SNS topic", "Write its ARN: sns:arn:aws:sns:eu-central-1:111122223333:ops"
        )
    _publisher(settings)


def _publisher(settings: NotifySettings) -> Publisher:
    if settings.publish is None:
        raise BadInputError("no SNS client is configured here", "Run it with AWS credentials.")
    return settings.publish


def redacted(address: str) -> str:
    """The ARN: it is no secret."""
    return address


def send(address: str, message: Message, settings: NotifySettings) -> None:
    """Publish it; raises what the publisher raises."""
    subject = message.subject.encode("ascii", "replace").decode()[: _SUBJECT - 1]
    text = message.text.encode()[:_LONGEST].decode(errors="ignore")
    _publisher(settings)(address, subject, text)
