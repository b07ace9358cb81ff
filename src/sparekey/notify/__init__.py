"""Notifications: one module per channel, found by looking into this folder.

A channel module holds `SCHEME` and `send(address, message, settings)`, which raises NotifyError; a target is
`SCHEME:ADDRESS`, such as `slack:https://hooks.slack.com/…`, `webhook:https://…`, `sns:arn:aws:sns:…` or
`mailto:ops@example.com`. Addresses of webhooks are secrets: no error and no failure shows one.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType

from sparekey.errors import BadInputError, SparekeyError
from sparekey.model import Value
from sparekey.notify._messages import Message, of_audit, of_rollback, of_run, of_state
from sparekey.notify._settings import NotifyError, NotifySettings, Publisher, settings_from

__all__ = [
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
def registry() -> Mapping[str, ModuleType]:
    """Every channel by its scheme, sorted."""
    modules = (
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if not info.name.startswith("_")
    )
    return dict(sorted((module.SCHEME, module) for module in modules))


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
        except Exception as error:  # noqa: BLE001  # told by its kind alone: its text may hold the address
            failures.append(
                DeliveryFailure(redacted(target), f"it failed in an unknown way: {type(error).__name__}")
            )
    return tuple(failures)


def redacted(target: str) -> str:
    """A target as it may be shown: a webhook's host alone."""
    scheme, _, address = target.partition(":")
    channel = registry().get(scheme)
    return f"{scheme}:{channel.redacted(address)}" if channel else "a target of an unknown kind"


def _channel(target: str) -> tuple[ModuleType, str]:
    scheme, colon, address = target.partition(":")
    channel = registry().get(scheme)
    if not colon or channel is None:
        known = ", ".join(f"{name}:…" for name in registry())
        raise BadInputError("a notification target is of no known kind", f"Kinds: {known}")
    return channel, address.strip()
