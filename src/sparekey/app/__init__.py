"""One function per verb: what the command line, the console and the workers all call."""

from sparekey.app.connection import AccountChoice, Connection, OnProgress, account_choice, connect
from sparekey.app.deletion import deletable, delete, delete_orphan, delete_root, older_than, orphan, root_key
from sparekey.app.delivery import (
    check_targets,
    notify_of_audit,
    notify_of_rollback,
    notify_of_run,
    notify_of_state,
    render_report,
    send_to_security_hub,
)
from sparekey.app.doctor import Check, doctor
from sparekey.app.exemptions import (
    ExemptionChange,
    ProposedPolicy,
    exemption_count,
    propose_exemption,
    write_exemption,
)
from sparekey.app.interactive import audit_for_page, encode_plan, plan_again, reread_users
from sparekey.app.output_files import plan_text, read_plan, write_plan, write_private
from sparekey.app.planning import FOUND, audit, exit_code, iam_policy, plan, read_snapshot, root_keys
from sparekey.app.practice_account import demo, practice_company, sandbox
from sparekey.app.rotation import HandoverCheck, check_each_handover, is_rotatable
from sparekey.app.run_records import export_ledger, run_records, verify_ledger
from sparekey.app.run_service import (
    Preflight,
    apply,
    preflight,
    register_plan,
    resume,
    run_options,
    run_worker,
    runs_of,
    stop,
)
from sparekey.app.undo_run import undo_run
from sparekey.app.usage_reading import (
    athena_ddl,
    keys_of_plan,
    keys_of_user,
    read_usage,
    read_usage_of_accounts,
    usage_request,
)
from sparekey.audit import ReadMode
from sparekey.decision import NO_OVERRIDES, Overrides
from sparekey.guards import Limits
from sparekey.ledger.events import RunOptions
from sparekey.ledger.records import LedgerEntry, OnEvent
from sparekey.ledger.verification import VerificationResult
from sparekey.notify import DeliveryFailure
from sparekey.plan import Plan, Step
from sparekey.report.asff import SecurityHubResult
from sparekey.runs.emergency import OutageMessage
from sparekey.settings import Setting, load_policy, policy_file, settings, write_starter_policy
from sparekey.usage import ReadProgress, UsageRequest

__all__ = [
    "FOUND",
    "NO_OVERRIDES",
    "AccountChoice",
    "Check",
    "Connection",
    "DeliveryFailure",
    "ExemptionChange",
    "HandoverCheck",
    "LedgerEntry",
    "Limits",
    "OnEvent",
    "OnProgress",
    "OutageMessage",
    "Overrides",
    "Plan",
    "Preflight",
    "ProposedPolicy",
    "ReadMode",
    "ReadProgress",
    "RunOptions",
    "SecurityHubResult",
    "Setting",
    "Step",
    "UsageRequest",
    "VerificationResult",
    "account_choice",
    "apply",
    "athena_ddl",
    "audit",
    "audit_for_page",
    "check_each_handover",
    "check_targets",
    "connect",
    "deletable",
    "delete",
    "delete_orphan",
    "delete_root",
    "demo",
    "doctor",
    "encode_plan",
    "exemption_count",
    "exit_code",
    "export_ledger",
    "iam_policy",
    "is_rotatable",
    "keys_of_plan",
    "keys_of_user",
    "load_policy",
    "notify_of_audit",
    "notify_of_rollback",
    "notify_of_run",
    "notify_of_state",
    "older_than",
    "orphan",
    "plan",
    "plan_again",
    "plan_text",
    "policy_file",
    "practice_company",
    "preflight",
    "propose_exemption",
    "read_plan",
    "read_snapshot",
    "read_usage",
    "read_usage_of_accounts",
    "register_plan",
    "render_report",
    "reread_users",
    "resume",
    "root_key",
    "root_keys",
    "run_options",
    "run_records",
    "run_worker",
    "runs_of",
    "sandbox",
    "send_to_security_hub",
    "settings",
    "stop",
    "undo_run",
    "usage_request",
    "verify_ledger",
    "write_exemption",
    "write_plan",
    "write_private",
    "write_starter_policy",
]
