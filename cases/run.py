"""Run the cases: `make cases`, or some of them by name: `make cases ARGS="forged_plan clock-skew"`.

Each case is a program of its own that plays on loopback and ends with 0 where every form is right. This prints every
wrong form and each case's closing line, and ends with 1 where one is not wholly right.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
LONGEST = 1200  # seconds
_HELPERS = ("common", "lab", "pg")


def cases() -> Mapping[str, list[str]]:
    """Every case by its name, with the command that runs it."""
    shells = {path.parent.name: ["bash", str(path)] for path in HERE.glob("*/*/run.sh")}
    found = (path for kind in ("reliability", "security") for path in HERE.glob(f"{kind}/*.py"))
    scripts = {path.stem: [sys.executable, str(path)] for path in found if path.stem not in _HELPERS}
    return dict(sorted((shells | scripts).items()))


def run(name: str, command: list[str]) -> bool:
    """Run one case and print what is wrong; whether every form is right."""
    environment = {**os.environ, "SK_VENV": sys.prefix}
    begun = time.monotonic()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST)
        said, right = done.stdout + done.stderr, done.returncode == 0
    except subprocess.TimeoutExpired:
        said, right = f"WRONG   no end in {LONGEST} s", False
    lines = said.rstrip().splitlines()
    shown = [line for line in lines if line.startswith("WRONG")] if right else lines
    for line in shown:
        print(f"    {line}")
    print(f"{lines[-1] if lines else name}  ({time.monotonic() - begun:.0f} s)", flush=True)
    return right


def main(names: list[str]) -> int:
    """Run the named cases, or all; the exit code."""
    known = cases()
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"there is no case {unknown[0]!r}; the cases are: {', '.join(known)}", file=sys.stderr)
        return 2
    wrong = [name for name in names or known if not run(name, known[name])]
    print(f"wrong: {', '.join(wrong)}" if wrong else f"all {len(names or known)} cases are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
