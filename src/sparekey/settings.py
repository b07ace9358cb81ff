"""Where sparekey keeps its state, and the policy that is read from there; nobody else may write either."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from sparekey import handover, probes, prowler_mutelist, rules
from sparekey.documents import DocumentError, read_text
from sparekey.errors import BadInputError, RefusedError
from sparekey.model import Value
from sparekey.ownership import check_ancestors, check_directory, check_file, make_directories
from sparekey.policy import Exemption, FieldError, Policy, PolicyError, parse_policy, read_toml, table_place
from sparekey.runs import change_windows

POLICY_FILE = "sparekey.toml"


class NoStateDirectoryError(BadInputError):
    """There is no state directory: none is named, and the user has no home directory."""

    default_hint = "Set SPAREKEY_HOME to a directory of your own; nothing was read or changed."


def state_directory() -> Path:
    """The state directory: SPAREKEY_HOME, else the platform's own; it need not exist. Raises NoStateDirectoryError."""
    named = os.environ.get("SPAREKEY_HOME")
    try:
        if named:
            path = Path(named).expanduser().absolute()
        else:
            from platformdirs import user_state_path  # noqa: PLC0415  # --help need not pay for it

            path = user_state_path("sparekey")
    except (OSError, RuntimeError) as error:
        what = f"SPAREKEY_HOME ({named}) names no directory" if named else "there is no state directory"
        raise NoStateDirectoryError(f"{what}: {error}") from error
    if not path.is_absolute() or (not named and "~" in path.parts):
        raise NoStateDirectoryError(
            f"there is no state directory: this user has no home directory, and {path} is none"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise BadInputError(
            f"the state directory {path} has a name that is not UTF-8", "Set SPAREKEY_HOME to another."
        ) from error
    return path


def policy_file(config: Path | None) -> Path:
    """The file that the policy is read from; it need not exist."""
    return config or state_directory() / POLICY_FILE


class Setting(Value, frozen=True):
    """One field of the policy in force: its value as plain data, and the file it is from, or "default"."""

    field: str
    value: Any
    source: str


def load_policy(config: Path | None) -> Policy:
    """Read the policy from `config`, else from the state directory, else the defaults; all of it is checked.

    Never from the current directory. Raises PolicyError, or RefusedError where others may write the file or
    exchange it. Who has no home directory has no policy in it.
    """
    return _load(config)[0]


def settings(config: Path | None) -> tuple[Setting, ...]:
    """Every field of the policy in force and where its value is from; raises as `load_policy` does."""
    policy, content, lists = _load(config)
    source = str(policy_file(config))
    plain = msgspec.to_builtins(policy, enc_hook=str)
    plain["probes"] = [
        {"kind": table["kind"], **msgspec.to_builtins(probe, enc_hook=str)}
        for table, probe in zip(policy.probes, probes.parse(policy.probes), strict=True)
    ]
    plain["mutelist"] = msgspec.to_builtins(content.get("mutelist", []))
    rows: list[Setting] = []
    for name, value in plain.items():
        configured = content.get(name)
        if not value or not isinstance(value, list | tuple) or not isinstance(value[0], dict):
            rows.append(Setting(name, value, "default" if configured is None else source))
            continue
        for index, entry in enumerate(value):
            own = configured[index] if configured and index < len(configured) else None
            file = source if own is not None else lists[index - len(configured or ())]
            for field, inner in entry.items():
                origin = file if own is None or field in own else "default"
                rows.append(Setting(f"{name}[{index + 1}].{field}", inner, origin))
    return tuple(rows)


def _load(config: Path | None) -> tuple[Policy, Mapping[str, Any], tuple[str, ...]]:
    """The policy, what stands in its file, and for each exemption of a mutelist the file it is from."""
    try:
        path = policy_file(config)
    except NoStateDirectoryError:
        if os.environ.get("SPAREKEY_HOME"):
            raise
        return Policy(), {}, ()
    try:
        if config is None:
            check_directory(path.parent, "the state directory", ours=path.exists())
        text = _read(path, "policy file")
    except (FileNotFoundError, NotADirectoryError):
        if config is None:
            return Policy(), {}, ()
        raise BadInputError(f"there is no policy file {path}", "Check --config.") from None
    policy = check_policy_text(text, path)
    imported = _load_mutelists(policy, path)
    everything = structs.replace(
        policy, exempt=policy.exempt + tuple(entry for _, entry in imported), mutelist=()
    )
    return everything, read_toml(text), tuple(file for file, _ in imported)


def check_policy_text(text: str, path: Path) -> Policy:
    """The policy that a text means, all of it checked; raises PolicyError with `path`, the table and the field."""
    try:
        policy = parse_policy(text)
        _check(policy)
    except FieldError as error:
        raise error.within(str(path)) from error
    return policy


def read_policy_text(config: Path | None) -> str:
    """The policy file as it is written; empty where there is none. Raises PolicyError and RefusedError."""
    path = policy_file(config)
    try:
        return _read(path, "policy file")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _read(path: Path, what: str) -> str:
    try:
        return read_text(path, lambda status: check_file(path, f"the {what}", status))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except DocumentError as error:
        raise PolicyError(f"the {what} {path} {error.message}", error.hint) from error
    except OSError as error:
        raise PolicyError(f"the {what} {path} cannot be read: {error.strerror or error}") from error


def _check(policy: Policy) -> None:
    """Raise FieldError for what only the rooms that use it can judge: rules, probes, change windows."""
    for index, entry in enumerate(policy.exempt):
        if entry.rule not in rules.registry():
            known = f"Rules: {', '.join(rules.registry())}."
            error = FieldError("rule", f"there is no such rule: {entry.rule!r}", known)
            raise error.within(table_place("exempt", index, {"user": entry.user}))
    probes.parse(policy.probes)
    handover.parse(policy.handover)
    for number, window in enumerate(policy.windows, 1):
        try:
            change_windows.check_window(window, datetime.now(UTC).date())
        except BadInputError as error:
            raise FieldError("windows", f"entry {number}: {error.message}", error.hint) from error


def _load_mutelists(policy: Policy, path: Path) -> list[tuple[str, Exemption]]:
    """What the policy's mutelists come to: each exemption with the file it is from."""
    exemptions: list[tuple[str, Exemption]] = []
    for index, entry in enumerate(policy.mutelist):
        file = path.parent / entry.file
        try:
            text = _read(file, "mutelist")
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a NUL
            error = FieldError("file", f"there is no file {file}", "Its path begins where the policy lies.")
            place = table_place("mutelist", index, {"file": entry.file})
            raise error.within(place).within(str(path)) from None
        try:
            exempt = prowler_mutelist.parse(text, until=entry.until, owner=entry.owner).exempt
        except PolicyError as error:
            raise PolicyError(f"{file}: {error.message}", error.hint) from error
        exemptions += ((str(file), exemption) for exemption in exempt)
    return exemptions


_STARTER = """\
# The policy of sparekey. Every field: docs/reference/policy.md. Check it: sparekey config validate
# Change windows are times at which keys may be deactivated; without any, always.

max_key_age = "{max_key_age}"   # a key is young below this age; only a young key is kept
settle = "{settle}"         # a younger key is never deactivated: its use may not show yet
quiet = "{quiet}"         # a key that was not used for this long is idle
cutover_quiet = "{cutover_quiet}"  # how long a used key must be unused before it can be released
watch = "{watch}"          # how long a deactivated key is monitored
require_probe = false # true: hold the keys of users that no probe covers
# windows = ["Mon-Thu 09:00-16:00 Europe/Berlin"]

# A user who may have spare keys until the end of a day:
# [[exempt]]
# user = "partner-sftp"
# account = "111122223333"
# owner = "integrations@example.com"
# reason = "the partner rotates on its side, until the contract ends"
# expires = 2030-01-31

# Users whose keys another tool rotates:
# [[rotators]]
# user = "vault-*"
# tool = "Vault"

# A health check that covers users; an unhealthy result reactivates their keys:
# [[probes]]
# name = "billing answers"
# kind = "http"
# user = "billing-*"
# url = "https://billing.example.com/health"
# every = "1m"
"""


def write_starter_policy(config: Path | None) -> Path:
    """Write a policy file with the defaults; returns its path. Raises RefusedError where there is a file."""
    path = policy_file(config)
    text = _STARTER.format(**{name: getattr(Policy(), name) for name in Policy.__struct_fields__})
    try:
        if config is None:
            check_ancestors(path.parent, "the state directory")
            make_directories(path.parent)
            check_directory(path.parent, "the state directory", ours=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        raise RefusedError(
            f"there is a policy file {path}; it is left as it is", "`sparekey config validate` checks it."
        ) from None
    except OSError as error:
        raise PolicyError(f"the policy file {path} cannot be written: {error.strerror}") from error
    return path
