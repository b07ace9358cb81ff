"""Where sparekey keeps its state, and the policy that is read from there; both closed to other users."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from sparekey import mutelist, probes, rules
from sparekey.documents import DocumentError, read_text
from sparekey.errors import BadInputError, RefusedError
from sparekey.policy import FieldError, Policy, PolicyError, parse_policy, table_place
from sparekey.run import windows

POLICY_FILE = "sparekey.toml"


def home() -> Path:
    """The state directory: SPAREKEY_HOME, else the platform's own. It need not exist yet."""
    named = os.environ.get("SPAREKEY_HOME")
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_state_path  # noqa: PLC0415  # --help need not pay for it

    return user_state_path("sparekey")


def policy_file(config: Path | None) -> Path:
    """The file that the policy is read from; it need not exist."""
    return config or home() / POLICY_FILE


def load_policy(config: Path | None) -> Policy:
    """Read the policy from `config`, else from the state directory, else the defaults; all of it is checked.

    Never from the current directory. Raises PolicyError, or RefusedError where others may write the file.
    """
    path = policy_file(config)
    try:
        text = _read(path, "policy file")
    except FileNotFoundError:
        if config is None:
            return Policy()
        raise BadInputError(f"there is no policy file {path}", "Check --config.") from None
    try:
        policy = parse_policy(text)
        _check(policy)
    except FieldError as error:
        raise error.within(str(path)) from error
    return _with_mutelists(policy, path)


def _read(path: Path, what: str) -> str:
    try:
        text, status = read_text(path)
    except FileNotFoundError:
        raise
    except DocumentError as error:
        raise PolicyError(f"the {what} {path} {error.message}", error.hint) from error
    except OSError as error:
        raise PolicyError(f"the {what} {path} cannot be read: {error.strerror or error}") from error
    _refuse_if_others_may_write(path, status)
    return text


def _check(policy: Policy) -> None:
    """Raise FieldError for what only the rooms that use it can judge: rules, probes, change windows."""
    for index, entry in enumerate(policy.exempt):
        if entry.rule not in rules.registry():
            known = f"Rules: {', '.join(rules.registry())}."
            error = FieldError("rule", f"there is no such rule: {entry.rule!r}", known)
            raise error.within(table_place("exempt", index, {"user": entry.user}))
    probes.parse(policy.probes)
    for number, window in enumerate(policy.windows, 1):
        try:
            windows.check(window, datetime.now(UTC).date())
        except BadInputError as error:
            raise FieldError("windows", f"entry {number}: {error.message}", error.hint) from error


def _with_mutelists(policy: Policy, path: Path) -> Policy:
    """The policy with its mutelists read: what they come to stands among the exemptions."""
    found = tuple(policy.exempt)
    for index, entry in enumerate(policy.mutelist):
        file = path.parent / entry.file
        try:
            found += mutelist.parse(_read(file, "mutelist"), until=entry.until, owner=entry.owner).exempt
        except FileNotFoundError:
            error = FieldError("file", f"there is no file {file}", "Its path begins where the policy lies.")
            place = table_place("mutelist", index, {"file": entry.file})
            raise error.within(place).within(str(path)) from None
        except PolicyError as error:
            if str(file) in error.message:
                raise
            raise PolicyError(f"{file}: {error.message}", error.hint) from error
    return structs.replace(policy, exempt=found, mutelist=())


def _refuse_if_others_may_write(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RefusedError(f"others may write the policy file {path}", f"Close it: chmod go-w {path}")
    if status.st_uid not in (0, os.geteuid()):
        raise RefusedError(f"the policy file {path} belongs to another user", f"Take it over: chown {path}")
