"""One function per verb: what the command line, the console and the workers all call."""

from sparekey.app.files import read_plan, write_plan, write_private
from sparekey.app.page import decide, encode_plan, practice, reread, study
from sparekey.app.practice import demo, sandbox
from sparekey.app.reading import audit, exit_code, iam_policy, plan, read, root_keys
from sparekey.app.running import OnEvent, Preflight, apply, preflight, runs, show, undo
from sparekey.app.session import App, OnProgress, Where, connect, where
from sparekey.audit import ReadMode
from sparekey.choose import NOTHING_ASKED, Asked
from sparekey.guards import Limits
from sparekey.ledger import Entry
from sparekey.plan import Plan, Step

__all__ = [
    "NOTHING_ASKED",
    "App",
    "Asked",
    "Entry",
    "Limits",
    "OnEvent",
    "OnProgress",
    "Plan",
    "Preflight",
    "ReadMode",
    "Step",
    "Where",
    "apply",
    "audit",
    "connect",
    "decide",
    "demo",
    "encode_plan",
    "exit_code",
    "iam_policy",
    "plan",
    "practice",
    "preflight",
    "read",
    "read_plan",
    "reread",
    "root_keys",
    "runs",
    "sandbox",
    "show",
    "study",
    "undo",
    "where",
    "write_plan",
    "write_private",
]
