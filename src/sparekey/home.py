"""Where sparekey keeps its state, and the policy that is read from there; both closed to other users."""

import os
import stat
from pathlib import Path

from msgspec import structs

from sparekey import mutelist
from sparekey.errors import BadInputError, RefusedError
from sparekey.policy import Policy, PolicyError, parse_policy

POLICY_FILE = "sparekey.toml"


def home() -> Path:
    """The state directory: SPAREKEY_HOME, else the platform's own. It need not exist yet."""
    named = os.environ.get("SPAREKEY_HOME")
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_state_path  # noqa: PLC0415  # --help need not pay for it

    return user_state_path("sparekey")


def load_policy(config: Path | None) -> Policy:
    """Read the policy from `config`, else from the state directory, else the defaults.

    Never from the current directory. Raises PolicyError, or RefusedError where others may write the file.
    """
    path = config or home() / POLICY_FILE
    try:
        status = path.stat()
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if config is None:
            return Policy()
        raise BadInputError(f"there is no policy file {path}", "Check --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy file {path} cannot be read: {error}") from error
    _refuse_if_others_may_write(path, status)
    return _with_mutelists(parse_policy(text), path.parent)


def _with_mutelists(policy: Policy, folder: Path) -> Policy:
    """The policy with its mutelists read: what they come to stands among the exemptions."""
    found = tuple(policy.exempt)
    for entry in policy.mutelist:
        path = folder / entry.file
        try:
            status = path.stat()
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"the mutelist {path} cannot be read: {error}") from error
        _refuse_if_others_may_write(path, status)
        found += mutelist.parse(text, until=entry.until, owner=entry.owner).exempt
    return structs.replace(policy, exempt=found, mutelist=())


def _refuse_if_others_may_write(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RefusedError(f"others may write the policy file {path}", f"Close it: chmod go-w {path}")
    if status.st_uid not in (0, os.geteuid()):
        raise RefusedError(f"the policy file {path} belongs to another user", f"Take it over: chown {path}")
