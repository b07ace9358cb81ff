"""The registry of rules and their numbers in the CIS benchmarks."""

import pytest

from sparekey.errors import BadInputError
from sparekey.rules import CIS_VERSIONS, DEFAULT_RULE, registry, rule

# The table of the benchmarks, by version: two keys, rotation, unused, root.
NUMBERS = {
    "1.3": ("1.13", "1.14", None, "1.4"),
    "1.4": ("1.13", "1.14", "1.12", "1.4"),
    "1.5": ("1.13", "1.14", "1.12", "1.4"),
    "2.0": ("1.13", "1.14", "1.12", "1.4"),
    "3.0": ("1.13", "1.14", "1.12", "1.4"),
    "4.0": ("1.13", "1.14", "1.12", "1.4"),
    "4.0.1": ("1.13", "1.14", "1.12", "1.4"),
    "5.0": ("1.12", "1.13", "1.11", "1.3"),
    "6.0": ("2.12", "2.13", "2.11", "2.3"),
    "7.0": (None, "2.12", "2.11", "2.4"),
}
RULES = ("two-active-keys", "old-key", "unused-key", "root-key")


def test_the_registry_finds_every_rule() -> None:
    assert list(registry()) == sorted(registry())
    assert set(RULES) <= set(registry())
    assert DEFAULT_RULE in registry()
    assert all(name == entry.id for name, (entry, _) in registry().items())


@pytest.mark.parametrize("version", CIS_VERSIONS)
def test_cis_numbers(version: str) -> None:
    assert tuple(rule(name)[0].cis_number(version) for name in RULES) == NUMBERS[version]


def test_an_unknown_version_names_those_that_are_known() -> None:
    with pytest.raises(BadInputError, match=r"'9\.9' is not known") as refusal:
        rule(DEFAULT_RULE)[0].cis_number("9.9")
    assert "4.0.1" in refusal.value.hint


def test_an_unknown_rule_names_those_that_are_known() -> None:
    with pytest.raises(BadInputError, match="no rule 'nothing'") as refusal:
        rule("nothing")
    assert "two-active-keys" in refusal.value.hint


def test_numbers_are_given_for_known_versions_only() -> None:
    assert all(set(entry.cis) <= set(CIS_VERSIONS) for entry, _ in registry().values())
