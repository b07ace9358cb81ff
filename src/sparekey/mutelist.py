"""Prowler's mutelist as exemptions, matched as Prowler matches it: regular expressions, unanchored.

https://docs.prowler.com/projects/prowler-open-source/en/latest/tutorials/mutelist/

A mutelist knows no end and no owner; an exemption has both, so whoever reads one says them. What Prowler
decides by something that sparekey does not read (tags) exempts nobody, and is told.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec

from sparekey import rules
from sparekey.model import Value
from sparekey.policy import Exemption, PolicyError, Scope, check_regex

_HINT = "docs/reports.md says what of a mutelist is read; account ids must be quoted."
_ANY = ".*"


class Mutelist(Value, frozen=True):
    """What a mutelist comes to: exemptions, and in words what of it exempts nobody here."""

    exempt: tuple[Exemption, ...]
    ignored: tuple[str, ...]


class _Exceptions(Value, frozen=True, rename="pascal"):
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class _Check(Value, frozen=True, rename="pascal"):
    regions: tuple[str, ...]
    resources: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    exceptions: _Exceptions | None = None
    description: str = ""


class _Account(Value, frozen=True, rename="pascal"):
    checks: dict[str, _Check]


class _Accounts(Value, frozen=True, rename="pascal"):
    accounts: dict[str, _Account]


class _File(Value, frozen=True, rename="pascal"):
    mutelist: _Accounts


def parse(text: str, *, until: date, owner: str, region: str = "us-east-1") -> Mutelist:
    """Read a mutelist; the exemptions end with the day `until` (UTC) and `owner` answers for them.

    `region` is where Prowler places IAM findings: the partition's first. Raises PolicyError.
    """
    file = _read(text)
    exempt: list[Exemption] = []
    ignored: list[str] = []
    for account, block in file.mutelist.accounts.items():
        for rule, _check in rules.registry().values():
            entries = [(name, entry) for name, entry in block.checks.items() if _found([name], rule.prowler)]
            if entries and rule.needs == "summary":
                ignored.append(f"{account}: {rule.prowler}: nobody is exempt from {rule.id}")
                continue
            unless: tuple[Scope, ...] = ()
            for name, entry in entries:
                unless += tuple(_unless(entry.exceptions or _Exceptions(), region))
                if entry.tags and set(entry.tags) != {"*"}:
                    ignored.append(f"{account}: {name}: it mutes by tag, and tags are not read")
                elif _found(entry.regions, region):
                    exempt += (
                        Exemption(
                            user=_pattern(resource),
                            account="*" if account == "*" else rf"\A{re.escape(account)}\Z",
                            match="regex",
                            unless=unless,
                            rule=rule.id,
                            owner=owner,
                            reason=entry.description or f"muted in Prowler: {name}: {resource}",
                            expires=until,
                        )
                        for resource in entry.resources
                    )
    return Mutelist(tuple(exempt), tuple(dict.fromkeys(ignored)))


def _read(text: str) -> _File:
    import yaml  # noqa: PLC0415  # comes with dbos; nothing else needs it

    try:
        content: Any = yaml.safe_load(text)
        return msgspec.convert(content, _File)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise PolicyError(f"the mutelist is not YAML{where}", _HINT) from error
    except (msgspec.ValidationError, ValueError) as error:
        raise PolicyError(f"the mutelist is not as Prowler writes it: {error}", _HINT) from error


def _pattern(item: str) -> str:
    """An item as the regular expression that Prowler makes of it."""
    pattern = _ANY + item[1:] if item.startswith("*") else item
    check_regex(pattern)
    return pattern or _ANY


def _found(items: Iterator[str] | tuple[str, ...] | list[str], text: str) -> bool:
    return any(re.search(_pattern(item), text) for item in items)


def _unless(exceptions: _Exceptions, region: str) -> Iterator[Scope]:
    """Whom an entry's exceptions take out: Prowler asks that every kind that is given matches.

    A tag is taken to match: it then exempts fewer, never more.
    """
    given = exceptions.accounts or exceptions.regions or exceptions.resources or exceptions.tags
    if not given or (exceptions.regions and not _found(exceptions.regions, region)):
        return
    for account in exceptions.accounts or (_ANY,):
        for resource in exceptions.resources or (_ANY,):
            yield Scope(user=_pattern(resource), account=_pattern(account), match="regex")
