"""The file of --accounts: our own TOML, or the accounts.yml of c7n-org."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sparekey.aws.accounts import AccountAccess, Target, check_access
from sparekey.documents import DocumentError, parse_toml, parse_yaml, read_text
from sparekey.errors import BadInputError
from sparekey.model import Value

_FORMS = "Write it as TOML, or name a c7n-org accounts.yml."


class _AccountEntry(Value, frozen=True, kw_only=True):
    """`[[account]]` in our TOML."""

    id: str
    name: str = ""
    role: str = ""
    external_id: str = ""
    session_duration: int = 0
    profile: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)


class _AccountsFile(Value, frozen=True, kw_only=True):
    account: tuple[_AccountEntry, ...]


class _CustodianAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One account of c7n-org's accounts.yml; fields that are no concern of ours are passed over."""

    account_id: str
    name: str = ""
    role: str | tuple[str, ...] = ()
    external_id: str = ""
    profile: str = ""
    tags: tuple[str, ...] = ()


class _CustodianFile(msgspec.Struct, frozen=True, kw_only=True):
    accounts: tuple[_CustodianAccount, ...]


def read_file(path: Path, own: str, partition: str) -> tuple[Target, ...]:
    """The accounts of a file, sorted by id: c7n-org's where it ends in .yml or .yaml, else our TOML.

    Raises BadInputError. Source: https://cloudcustodian.io/docs/tools/c7n-org.html
    """
    try:
        text = read_text(path)
        read = _from_yaml if path.suffix in {".yml", ".yaml"} else _from_toml
        targets = read(text, partition)
    except OSError as error:
        why = f"the accounts file {path} cannot be read: {error.strerror or error}"
        raise BadInputError(why, "Check --accounts.") from error
    except DocumentError as error:
        raise BadInputError(f"the accounts file {path} {error.message}", error.hint or _FORMS) from error
    except msgspec.ValidationError as error:
        why = f"the accounts file {path} has a wrong field: {_first_line(error)}"
        raise BadInputError(why, _FORMS) from error
    for target in targets:
        _check_target(target, own)
    counts = Counter(target.id for target in targets)
    if twice := sorted(account for account, count in counts.items() if count > 1):
        raise BadInputError(f"the accounts file {path} names {twice[0]} twice")
    return tuple(sorted(targets, key=lambda target: target.id))


def _from_toml(text: str, partition: str) -> list[Target]:
    targets = []
    for table in msgspec.convert(parse_toml(text), _AccountsFile).account:
        entry = check_access(
            AccountAccess(
                role=table.role, external_id=table.external_id, session_duration=table.session_duration
            )
        )
        roles = (entry.arn(partition, table.id),) if table.role else ()
        tags = tuple(sorted(table.tags.items()))
        targets.append(
            Target(
                table.id, table.name, tags, roles, table.external_id, table.session_duration, table.profile
            )
        )
    return targets


def _from_yaml(text: str, _partition: str) -> list[Target]:
    targets = []
    for entry in msgspec.convert(parse_yaml(text), _CustodianFile).accounts:
        roles = (entry.role,) if isinstance(entry.role, str) else entry.role
        pairs = (tag.partition(":") for tag in entry.tags)
        tags = tuple(sorted((key, value) for key, _, value in pairs))
        targets.append(
            Target(entry.account_id, entry.name, tags, roles, entry.external_id, profile=entry.profile)
        )
    return targets


def _check_target(target: Target, own: str) -> None:
    if not re.fullmatch(r"\d{12}", target.id):
        raise BadInputError(
            f"{target.id!r} is no account id", "Twelve digits, in quotes where the file is YAML."
        )
    if target.roles and f"::{target.id}:role/" not in target.roles[-1]:
        raise BadInputError(f"the role {target.roles[-1]} is not in the account {target.id} that it is for")
    if not (target.roles or target.profile or target.id == own):
        raise BadInputError(
            f"account {target.id} has neither a role nor a profile",
            "Only the caller's own account needs none.",
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
