"""Prowler's mutelist as exemptions, matched as Prowler matches it: regular expressions, unanchored.

https://docs.prowler.com/projects/prowler-open-source/en/latest/tutorials/mutelist/
Every `*` stands for `.*`: https://github.com/prowler-cloud/prowler/pull/7685

A mutelist knows no end and no owner; an exemption has both, so importing one requires them. What Prowler
decides by something that sparekey does not read (tags) exempts no user, and is reported.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import date

import msgspec

from sparekey import patterns, rules
from sparekey.documents import DocumentError, parse_yaml
from sparekey.model import Value
from sparekey.policy import Exemption, PolicyError, Scope

_HINT = "docs/reference/reports.md lists what is read of a mutelist; account ids must be quoted."
_ANYTHING = ".*"
# Accounts, checks and resources multiply, and every user is matched with every exemption and its exceptions.
_LARGEST_COUNT = 10_000


class ImportedMutelist(Value, frozen=True):
    """What a mutelist comes to: exemptions, and in words what of it exempts nobody here."""

    exempt: tuple[Exemption, ...]
    ignored: tuple[str, ...]


class _CheckExceptions(Value, frozen=True, rename="pascal"):
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class _MutedCheck(Value, frozen=True, rename="pascal"):
    regions: tuple[str, ...]
    resources: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    exceptions: _CheckExceptions | None = None
    description: str = ""


class _AccountChecks(Value, frozen=True, rename="pascal"):
    checks: dict[str, _MutedCheck]


class _AccountsByPattern(Value, frozen=True, rename="pascal"):
    accounts: dict[str, _AccountChecks]


class _MutelistDocument(Value, frozen=True, rename="pascal"):
    mutelist: _AccountsByPattern


def parse(text: str, *, until: date, owner: str, region: str = "us-east-1") -> ImportedMutelist:
    """Read a mutelist; the exemptions end with the day `until` (UTC) and `owner` answers for them.

    `region` is where Prowler places IAM findings: the partition's first. Raises PolicyError.
    """
    file = _read(text)
    exempt: list[Exemption] = []
    ignored: list[str] = []
    for account, block in file.mutelist.accounts.items():
        for rule, _check in rules.registry().values():
            # A rule that Prowler has no check for is muted by none, not even by `*`.
            named = rule.prowler and [
                (name, entry) for name, entry in block.checks.items() if _exemptions_of([name], rule.prowler)
            ]
            if named and rule.needs == "summary":
                ignored.append(f"{account}: {rule.prowler}: no user is exempt from {rule.id}")
                continue
            unless: tuple[Scope, ...] = ()
            for name, entry in named or ():
                exceptions = entry.exceptions or _CheckExceptions()
                unless += tuple(
                    _exception_rules(exceptions, region, _LARGEST_COUNT - len(exempt) - len(unless))
                )
                if entry.tags and set(entry.tags) != {"*"}:
                    ignored.append(f"{account}: {name}: it mutes by tag, and tags are not read")
                elif _exemptions_of(entry.regions, region):
                    _check_count(len(exempt) + (len(unless) + 1) * len(entry.resources), _LARGEST_COUNT)
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
    return ImportedMutelist(tuple(exempt), tuple(dict.fromkeys(ignored)))


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise PolicyError(
            f"the mutelist expands to more than {_LARGEST_COUNT:,} exemptions and exceptions: its lists multiply",
            "Join the resources of a check in one pattern, such as ^(a|b|c)$.",
        )


def _read(text: str) -> _MutelistDocument:
    try:
        return msgspec.convert(parse_yaml(text), _MutelistDocument)
    except DocumentError as error:
        raise PolicyError(f"the mutelist {error.message}", error.hint or _HINT) from error
    except msgspec.ValidationError as error:
        raise PolicyError(f"the mutelist is not as Prowler writes it: {error}", _HINT) from error


def _pattern(item: str) -> str:
    """An item as the regular expression that Prowler makes of it; raises PolicyError."""
    pattern = item.replace("*", _ANYTHING)
    try:
        patterns.compiled(pattern)
    except patterns.PatternError as error:
        raise PolicyError(f"the mutelist has the item {item!r}: {error.message}", error.hint) from error
    return pattern or _ANYTHING


def _exemptions_of(items: Iterable[str], text: str) -> bool:
    return any(patterns.matches(_pattern(item), text) for item in items)


def _exception_rules(exceptions: _CheckExceptions, region: str, most: int) -> Iterator[Scope]:
    """Whom an entry's exceptions take out: Prowler asks that every kind that is given matches.

    A tag is taken to match: it then exempts fewer, never more.
    """
    narrowed = exceptions.accounts or exceptions.regions or exceptions.resources or exceptions.tags
    if not narrowed or (exceptions.regions and not _exemptions_of(exceptions.regions, region)):
        return
    _check_count(max(1, len(exceptions.accounts)) * max(1, len(exceptions.resources)), most)
    for account in exceptions.accounts or (_ANYTHING,):
        for resource in exceptions.resources or (_ANYTHING,):
            yield Scope(user=_pattern(resource), account=_pattern(account), match="regex")
