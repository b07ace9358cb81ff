"""Notifications: one module per channel (`interface.py` has its shape), found by looking into this folder."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import cast

from sparekey.errors import BadInputError, SparekeyError
from sparekey.model import Value
from sparekey.notify._messages import Message, of_audit, of_rollback, of_run, of_state
from sparekey.notify._settings import settings_from
from sparekey.notify.interface import Channel, NotifyError, NotifySettings, Publisher
from sparekey.plugins import modules_in

__all__ = [
    "Channel",
    "DeliveryFailure",
    "Message",
    "NotifyError",
    "NotifySettings",
    "Publisher",
    "check",
    "of_audit",
    "of_rollback",
    "of_run",
    "of_state",
    "registry",
    "send",
    "settings_from",
]


class DeliveryFailure(Value, frozen=True):
    """A notification that did not go out: `target` is shown without its secret."""

    target: str
    why: str


@cache
def registry() -> Mapping[str, Channel]:
    """Every channel by its scheme, sorted."""
    channels = (cast("Channel", module) for module in modules_in(__name__, __path__).values())
    return dict(sorted((channel.SCHEME, channel) for channel in channels))


def check(targets: Iterable[str], settings: NotifySettings) -> None:
    """Raise BadInputError for a target that cannot work: checked before a run starts."""
    for target in targets:
        channel, address = _channel(target)
        channel.check(address, settings)


def send(targets: Iterable[str], message: Message, settings: NotifySettings) -> tuple[DeliveryFailure, ...]:
    """Notify every target; failures are returned and never raised, for a notification must not fail a run."""
    failures = []
    for target in targets:
        try:
            channel, address = _channel(target)
            channel.check(address, settings)
            channel.send(address, message, settings)
        except SparekeyError as error:
            failures.append(DeliveryFailure(redacted(target), error.message))
        except Exception as error:  # noqa: BLE001  # by its kind alone: its text may hold the address
            failures.append(DeliveryFailure(redacted(target), f"unexpected error: {type(error).__name__}"))
    return tuple(failures)


def redacted(target: str) -> str:
    """A target as it may be shown: a webhook's host alone."""
    scheme, _, address = target.partition(":")
    channel = registry().get(scheme)
    return f"{scheme}:{channel.redacted(address)}" if channel else "a target of an unknown kind"


def _channel(target: str) -> tuple[Channel, str]:
    scheme, colon, address = target.partition(":")
    channel = registry().get(scheme)
    if not colon or channel is None:
        known = ", ".join(f"{name}:…" for name in registry())
        raise BadInputError("a notification target is of no known kind", f"Kinds: {known}")
    return channel, address.strip()
