"""The rules: one module each, found by looking into this folder; a new rule is one new module.

A rule module holds `RULE` (its metadata) and `check(account, policy, now) -> Iterable[Finding]`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Literal

from sparekey.errors import BadInputError
from sparekey.model import Account, Finding, Value
from sparekey.policy import Policy

DEFAULT_RULE = "two-active-keys"
CIS_VERSIONS = ("1.3", "1.4", "1.5", "2.0", "3.0", "4.0", "4.0.1", "5.0", "6.0", "7.0")

Check = Callable[[Account, Policy, datetime], Iterable[Finding]]


class Rule(Value, frozen=True):
    """A rule's metadata: what it is called, what it says, where the benchmarks number it, what it reads."""

    id: str
    title: str
    cis: Mapping[str, str]
    needs: Literal["keys", "last_use", "summary"] = "keys"
    severity: Literal["low", "medium", "high", "critical"] = "medium"

    def cis_number(self, version: str) -> str | None:
        """The control's number in a version of the CIS AWS Foundations Benchmark, if it has one."""
        if version not in CIS_VERSIONS:
            known = ", ".join(CIS_VERSIONS)
            raise BadInputError(f"CIS version {version!r} is not known", f"Known versions: {known}.")
        return self.cis.get(version)


@cache
def registry() -> Mapping[str, tuple[Rule, Check]]:
    """Every rule by its id, sorted."""
    found: dict[str, tuple[Rule, Check]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        if module.name.rpartition(".")[2].startswith("_"):
            continue
        loaded = importlib.import_module(module.name)
        found[loaded.RULE.id] = (loaded.RULE, loaded.check)
    return dict(sorted(found.items()))


def rule(name: str) -> tuple[Rule, Check]:
    """One rule and its predicate; raises BadInputError for a name that is none."""
    try:
        return registry()[name]
    except KeyError:
        known = ", ".join(registry())
        raise BadInputError(f"there is no rule {name!r}", f"Rules: {known}.") from None


def findings(account: Account, policy: Policy, now: datetime, names: Iterable[str]) -> tuple[Finding, ...]:
    """What the named rules say of one account, sorted by user, rule and key."""
    said = (finding for name in names for finding in rule(name)[1](account, policy, now))
    return tuple(sorted(said, key=lambda finding: (finding.user, finding.rule, finding.key)))
