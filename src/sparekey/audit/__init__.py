"""Reads accounts in parallel into one `Snapshot`, and reports progress."""

from sparekey.audit.account import ReadMode, ReadOptions, row_matches_user
from sparekey.audit.progress import (
    AccountDone,
    AccountStarted,
    AuditEvent,
    InterruptedAuditError,
    UserRead,
    UsersListed,
)
from sparekey.audit.reader import audit
from sparekey.audit.single_user import (
    AccountSummary,
    AuditedAccount,
    NeedLastUse,
    Quarantine,
    mark_quarantined,
    read_quarantine,
    read_user,
)

__all__ = [
    "AccountDone",
    "AccountStarted",
    "AccountSummary",
    "AuditEvent",
    "AuditedAccount",
    "InterruptedAuditError",
    "NeedLastUse",
    "Quarantine",
    "ReadMode",
    "ReadOptions",
    "UserRead",
    "UsersListed",
    "audit",
    "mark_quarantined",
    "read_quarantine",
    "read_user",
    "row_matches_user",
]
