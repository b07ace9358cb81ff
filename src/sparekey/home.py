"""Where sparekey keeps its state, and the policy that is read from there; nobody else may write either."""

import os
from pathlib import Path

from msgspec import structs

from sparekey import mutelist
from sparekey.errors import BadInputError
from sparekey.ownership import check_directory, read_owned
from sparekey.policy import Policy, PolicyError, parse_policy

POLICY_FILE = "sparekey.toml"


class NoHomeError(BadInputError):
    """There is no state directory: none is named, and the user has no home directory."""

    default_hint = "Set SPAREKEY_HOME to a directory of your own; nothing was read or changed."


def home() -> Path:
    """The state directory: SPAREKEY_HOME, else the platform's own. It need not exist yet. Raises NoHomeError."""
    named = os.environ.get("SPAREKEY_HOME")
    try:
        if named:
            path = Path(named).expanduser().absolute()
        else:
            from platformdirs import user_state_path  # noqa: PLC0415  # --help need not pay for it

            path = user_state_path("sparekey")
    except (OSError, RuntimeError) as error:
        what = f"SPAREKEY_HOME ({named}) names no directory" if named else "there is no state directory"
        raise NoHomeError(f"{what}: {error}") from error
    if not path.is_absolute() or (not named and "~" in path.parts):
        raise NoHomeError(f"there is no state directory: this user has no home directory, and {path} is none")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise BadInputError(
            f"the state directory {path} has a name that is not UTF-8", "Set SPAREKEY_HOME to another."
        ) from error
    return path


def load_policy(config: Path | None) -> Policy:
    """Read the policy from `config`, else from the state directory, else the defaults.

    Never from the current directory. Raises PolicyError, or RefusedError where others may write the file or
    exchange it. Who has no home directory has no policy in it.
    """
    if config is None:
        try:
            path = home() / POLICY_FILE
        except NoHomeError:
            if os.environ.get("SPAREKEY_HOME"):
                raise
            return Policy()
    else:
        path = config
    try:
        if config is None:
            check_directory(path.parent, "the state directory", ours=path.exists())
        text = read_owned(path, "the policy file")
    except (FileNotFoundError, NotADirectoryError):
        if config is None:
            return Policy()
        raise BadInputError(f"there is no policy file {path}", "Check --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy file {path} cannot be read: {error}") from error
    return _with_mutelists(parse_policy(text), path.parent)


def _with_mutelists(policy: Policy, folder: Path) -> Policy:
    """The policy with its mutelists read: what they come to stands among the exemptions."""
    found = tuple(policy.exempt)
    for entry in policy.mutelist:
        path = folder / entry.file
        try:
            text = read_owned(path, "the mutelist")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"the mutelist {path} cannot be read: {error}") from error
        found += mutelist.parse(text, until=entry.until, owner=entry.owner).exempt
    return structs.replace(policy, exempt=found, mutelist=())
