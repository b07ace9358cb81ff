"""Reads every user and access key of many accounts at once, and ends in one immutable `Snapshot`.

One account's failure stops no other: what could not be read is a value in the snapshot.
"""

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime

from sparekey.audit.account import AccountReader, ReadMode, ReadOptions
from sparekey.audit.progress import AccountDone, AuditEvent, InterruptedAuditError
from sparekey.audit.single_user import AuditedAccount, NeedLastUse
from sparekey.aws.worker_pool import WorkerPool
from sparekey.clock import Clock
from sparekey.model import (
    Account,
    Caller,
    SkippedAccount,
    Snapshot,
)


def audit(
    accounts: Sequence[AuditedAccount],
    clock: Clock,
    *,
    caller: Caller,
    read: ReadMode = "list",
    need_last_use: NeedLastUse = "spare",
    fresh: bool = True,
    quarantine: bool = False,
    root: bool = False,
    workers: int = 64,
    skipped: Sequence[SkippedAccount] = (),
    on_event: Callable[[AuditEvent], None] = lambda _: None,
) -> Snapshot:
    """Read all accounts; raises InterruptedAuditError on Ctrl-C. Events come on the caller's thread.

    `read="auto"` takes the credential report for an account of more than 20 users. `need_last_use` is for
    the active keys of users with spare keys, or for all; `fresh` asks IAM even where the report has one.
    `quarantine` asks whom AWS has quarantined, `root` the report for the root user's keys.
    """
    began = clock.now()
    options = ReadOptions(read, need_last_use, fresh, quarantine, root)
    done: list[Account] = []
    waiting = iter(accounts)
    try:
        with WorkerPool[AuditEvent](workers) as pool:
            # Twice as many as can be asked at once: nobody waits for the next account to be started.
            for account in itertools.islice(waiting, 2 * workers):
                AccountReader(account, clock, pool, options).start()
            while len(done) < len(accounts):
                event = pool.next_event()
                if isinstance(event, AccountDone):
                    done.append(event.account)
                    event = AccountDone(event.account, len(done), len(accounts))
                    for account in itertools.islice(waiting, 1):
                        AccountReader(account, clock, pool, options).start()
                on_event(event)
    except KeyboardInterrupt:
        partial = _snapshot(began, caller, done, skipped)
        raise InterruptedAuditError(partial, len(accounts)) from None
    return _snapshot(began, caller, done, skipped)


def _snapshot(
    began: datetime, caller: Caller, accounts: list[Account], skipped: Sequence[SkippedAccount]
) -> Snapshot:
    in_order = tuple(sorted(accounts, key=lambda account: account.id))
    return Snapshot(began, caller, in_order, tuple(sorted(skipped, key=lambda account: account.id)))
