"""What a rule is: a module here with the names of `RuleModule`."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Literal, Protocol

from sparekey.errors import BadInputError
from sparekey.model import Account, Finding, Value
from sparekey.policy import Policy

DEFAULT_RULE = "two-active-keys"
CIS_VERSIONS = ("1.3", "1.4", "1.5", "2.0", "3.0", "4.0", "4.0.1", "5.0", "6.0", "7.0")

Check = Callable[[Account, Policy, datetime], Iterable[Finding]]


class Rule(Value, frozen=True):
    """A rule's metadata: what it is called, what it says, where the benchmarks number it, what it reads.

    `remedy` is what to do about a finding; `prowler` is the name of Prowler's check for the same.
    """

    id: str
    title: str
    cis: Mapping[str, str]
    needs: Literal["keys", "age", "last_use", "summary", "quarantine"] = "keys"
    severity: Literal["low", "medium", "high", "critical"] = "medium"
    remedy: str = ""
    prowler: str = ""

    def cis_number(self, version: str) -> str | None:
        """The control's number in a version of the CIS AWS Foundations Benchmark, if it has one."""
        if version not in CIS_VERSIONS:
            known = ", ".join(CIS_VERSIONS)
            raise BadInputError(f"CIS version {version!r} is not known", f"Known versions: {known}.")
        return self.cis.get(version)


class RuleModule(Protocol):
    """A module of this folder: `RULE` is its metadata, `check(account, policy, now)` yields its findings."""

    RULE: Rule
    check: Check
