"""A Slack incoming webhook: `slack:https://hooks.slack.com/services/…`.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

from sparekey.notify._messages import Message
from sparekey.notify._post import check_url, host_of, post
from sparekey.notify.interface import NotifySettings

SCHEME = "slack"
# https://docs.slack.dev/messaging/formatting-message-text: what would make a user's name a link or a mention.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LONGEST = 3000  # characters of one section


def check(address: str, settings: NotifySettings) -> None:
    """Raise BadInputError for an address that is not https."""
    del settings
    check_url(address)


def redacted(address: str) -> str:
    """The host."""
    return host_of(address)


def send(address: str, message: Message, settings: NotifySettings) -> None:
    """Post it as plain text, which Slack neither links nor formats; raises NotifyError."""
    mark = ":warning: " if message.urgent else ""
    body = {
        "text": f"{mark}{message.subject.translate(_ESCAPES)}",
        "blocks": [
            _section(f"{mark}{message.subject}"),
            _section(message.text),
        ],
    }
    post(address, body, settings)


def _section(text: str) -> dict[str, object]:
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return {"type": "section", "text": {"type": "plain_text", "text": cut, "emoji": True}}
