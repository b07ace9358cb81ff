"""Just enough SQS for an application that uses a key: send and receive. Any queue exists."""

import hashlib
from typing import Any

from sparekey.sandbox.request import ApiCall, Handler


def _queue(call: ApiCall) -> list[str]:
    return call.company.queues.setdefault(f"{call.caller.account}/{call.params.get('QueueUrl', '')}", [])


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def send_message(call: ApiCall) -> dict[str, Any]:
    """Put a message last."""
    text = str(call.params.get("MessageBody", ""))
    _queue(call).append(text)
    return {"MD5OfMessageBody": _md5(text), "MessageId": call.company.uuid()}


def receive_message(call: ApiCall) -> dict[str, Any]:
    """Take the first message; it does not come back."""
    queue = _queue(call)
    if not queue:
        return {}
    text = queue.pop(0)
    id_ = call.company.uuid()
    return {"Messages": [{"MessageId": id_, "ReceiptHandle": id_, "MD5OfBody": _md5(text), "Body": text}]}


def delete_message(_call: ApiCall) -> dict[str, Any]:
    """Receiving has deleted it already."""
    return {}


ACTIONS: dict[str, Handler] = {
    "DeleteMessage": delete_message,
    "ReceiveMessage": receive_message,
    "SendMessage": send_message,
}
