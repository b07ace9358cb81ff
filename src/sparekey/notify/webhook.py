"""Any webhook: `webhook:https://…` gets the message and its data as JSON."""

from sparekey.notify._messages import Message
from sparekey.notify._post import check_url, host_of, post
from sparekey.notify.interface import NotifySettings

SCHEME = "webhook"


def check(address: str, settings: NotifySettings) -> None:
    """Raise BadInputError for an address that is not https."""
    del settings
    check_url(address)


def redacted(address: str) -> str:
    """The host."""
    return host_of(address)


def send(address: str, message: Message, settings: NotifySettings) -> None:
    """Post it; raises NotifyError."""
    payload = {
        "schema": "sparekey/message/1",
        "event": message.event,
        "urgent": message.urgent,
        "subject": message.subject,
        "text": message.text,
        "data": message.data,
    }
    post(address, payload, settings)
