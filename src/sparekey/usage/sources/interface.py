"""What a usage source is: a module here with `read`; its name is what stands before `=` in `--usage NAME=SPEC`."""

from collections.abc import Collection
from typing import Protocol

from sparekey.model import Usage
from sparekey.usage.request import UsageRequest


class UsageSource(Protocol):
    """A module of this folder."""

    def read(self, spec: str, keys: Collection[str], request: UsageRequest) -> tuple[Usage, ...]:
        """The usage of each key, sorted by key; `spec` is what stands after `=`."""
        ...
