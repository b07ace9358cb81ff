"""Any webhook: `webhook:https://…` gets the message and its data as JSON."""

from sparekey.notify._messages import Message
from sparekey.notify._post import check_url, host_of, post
from sparekey.notify._settings import Settings

SCHEME = "webhook"


def check(address: str, settings: Settings) -> None:
    """Raise BadInputError for an address that is not https."""
    del settings
    check_url(address)


def shown(address: str) -> str:
    """The host."""
    return host_of(address)


def send(address: str, message: Message, settings: Settings) -> None:
    """Post it; raises NotifyError."""
    told = {
        "schema": "sparekey/message/1",
        "event": message.event,
        "urgent": message.urgent,
        "subject": message.subject,
        "text": message.text,
        "data": message.data,
    }
    post(address, told, settings)
