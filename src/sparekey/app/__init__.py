"""One function per verb: what the command line, the console and the workers all call."""

from sparekey.app.connection import App, OnProgress, Where, connect, where
from sparekey.app.deletion import deletable, delete, delete_root, older_than, root_key
from sparekey.app.delivery import (
    check_targets,
    report_on,
    send_to_security_hub,
    tell_of_audit,
    tell_of_rollback,
    tell_of_run,
    tell_of_state,
)
from sparekey.app.interactive import decide, encode_plan, reread, study
from sparekey.app.output_files import plan_text, read_plan, write_plan, write_private
from sparekey.app.planning import audit, exit_code, iam_policy, plan, read, root_keys
from sparekey.app.practice_account import demo, practice_company, sandbox
from sparekey.app.run_service import (
    OnEvent,
    Preflight,
    apply,
    export_ledger,
    follow,
    options,
    preflight,
    remember,
    resume,
    runs,
    show,
    stop,
    verify_ledger,
    work,
)
from sparekey.app.undo_run import undo
from sparekey.app.usage_reading import (
    athena_ddl,
    keys_of_plan,
    keys_of_user,
    request,
    usage,
    usage_of_accounts,
)
from sparekey.audit import ReadMode
from sparekey.guards import Limits
from sparekey.ledger.events import Options
from sparekey.ledger.store import Entry
from sparekey.ledger.verification import Verification
from sparekey.plan import Plan, Step
from sparekey.report.asff import Sent
from sparekey.runs.emergency import Told
from sparekey.selection import NOTHING_ASKED, Asked
from sparekey.settings import Setting, load_policy, policy_file, settings
from sparekey.usage import Progress, Request

__all__ = [
    "NOTHING_ASKED",
    "App",
    "Asked",
    "Entry",
    "Limits",
    "OnEvent",
    "OnProgress",
    "Options",
    "Plan",
    "Preflight",
    "Progress",
    "ReadMode",
    "Request",
    "Sent",
    "Setting",
    "Step",
    "Told",
    "Verification",
    "Where",
    "apply",
    "athena_ddl",
    "audit",
    "check_targets",
    "connect",
    "decide",
    "deletable",
    "delete",
    "delete_root",
    "demo",
    "encode_plan",
    "exit_code",
    "export_ledger",
    "follow",
    "iam_policy",
    "keys_of_plan",
    "keys_of_user",
    "load_policy",
    "older_than",
    "options",
    "plan",
    "plan_text",
    "policy_file",
    "practice_company",
    "preflight",
    "read",
    "read_plan",
    "remember",
    "report_on",
    "request",
    "reread",
    "resume",
    "root_key",
    "root_keys",
    "runs",
    "sandbox",
    "send_to_security_hub",
    "settings",
    "show",
    "stop",
    "study",
    "tell_of_audit",
    "tell_of_rollback",
    "tell_of_run",
    "tell_of_state",
    "undo",
    "usage",
    "usage_of_accounts",
    "verify_ledger",
    "where",
    "work",
    "write_plan",
    "write_private",
]
