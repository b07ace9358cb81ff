"""Files that leave: whole or not at all, and for nobody but their owner."""

import json
import os
import re
from pathlib import Path

from sparekey import plan as planning
from sparekey.errors import BadInputError, SparekeyError
from sparekey.plan import Plan


def write_plan(plan: Plan, path: Path) -> None:
    """Write the plan's file, readable and writable by its owner alone, whole or not at all."""
    write_private(path, planning.encode(plan))


def plan_text(plan: Plan) -> str:
    """The plan's file as ASCII text, for a stdout of any encoding."""
    return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], planning.encode(plan).decode())


def read_plan(path: Path) -> Plan:
    """Read a plan's file; raises BadInputError or PlanError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"the plan {path} cannot be read: {error.strerror}", "Make one: sparekey plan -o plan.json"
        ) from error
    return planning.decode(content)


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
