"""Files that leave: whole or not at all, and for nobody but their owner."""

import json
import os
import re
import stat
from pathlib import Path

from sparekey import plan as planning
from sparekey.errors import BadInputError, SparekeyError
from sparekey.plan import Plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write the plan's file, readable and writable by its owner alone, whole or not at all."""
    write_private(path, planning.encode(plan))


def plan_text(plan: Plan) -> str:
    """The plan's file as ASCII text, for a stdout of any encoding."""
    return re.sub(r"[^\x00-\x7f]", lambda match: json.dumps(match[0])[1:-1], planning.encode(plan).decode())


def read_plan(path: Path) -> Plan:
    """Read a plan's file; raises BadInputError or PlanError."""
    try:
        content = _read_limited(path)
    except OSError as error:
        raise BadInputError(
            f"the plan {path} cannot be read: {error.strerror}", "Make one: sparekey plan -o plan.json"
        ) from error
    try:
        return planning.decode(content)
    except planning.PlanError as error:
        raise planning.PlanError(f"{path}: {error.message}; nothing was changed", error.hint) from error


# Far more than a plan of 100,000 steps has, and little enough to be held in memory.
_LARGEST_PLAN = 256 << 20


def _read_limited(path: Path) -> bytes:
    """All of a file, or of a pipe that a shell made; raises BadInputError for what is too large, or no file."""
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode) and not path.is_relative_to("/dev"):
        raise BadInputError(f"the plan {path} is a named pipe, not a file", "Name the file of a plan.")
    with path.open("rb") as file:
        content = file.read(_LARGEST_PLAN + 1)
    if len(content) > _LARGEST_PLAN:
        raise BadInputError(
            f"the plan {path} is larger than {_LARGEST_PLAN >> 20} MiB",
            "Plan fewer users at a time (--user, --ou, --include).",
        )
    return content


def write_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600 beside its place and move it there; raises SparekeyError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise SparekeyError(f"{path} cannot be written: {error.strerror}", "Name another file.") from error
