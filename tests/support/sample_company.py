"""A small company as it could be read: three accounts, one closed to us, and names meant to do harm."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from sparekey.model import (
    ACTIVE,
    INACTIVE,
    NEVER_USED,
    NOT_READ,
    AccessKey,
    Account,
    Audit,
    Caller,
    LastUsed,
    RunRecord,
    RunState,
    Snapshot,
    StepRecord,
    StepState,
    Unreadable,
    User,
)
from sparekey.policy import Exemption, Policy
from sparekey.rules import assess

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROD, DEV, SHUT = "111122223333", "444455556666", "777788889999"
CALLER = Caller(PROD, f"arn:aws:sts::{PROD}:assumed-role/security/ana")
POLICY = Policy(
    exempt=(
        Exemption(
            user="vault-*", owner="platform", reason="Vault rotates with two", expires=date(2026, 6, 30)
        ),
    )
)
SCRIPT = "<script>alert(1)</script>"
BACKWARDS = "invoice\u202egnp.exe"
HEBREW = "שלום-bot"
FORMULA = "=cmd|' /C calc'!A0"
ESCAPE = "red\x1b[31m\x9b2J"
RULES = ("two-active-keys", "old-key", "root-key")


def key(number: int, age: float, used: float | None = None, status: str = ACTIVE) -> AccessKey:
    """A key `age` days old and last used `used` days ago (None: never)."""
    at = NEVER_USED
    if used is not None:
        at = LastUsed("used", NOW - timedelta(days=used), "s3", "eu-central-1")
    return AccessKey(f"AKIADEMO{number:012d}", status, NOW - timedelta(days=age), at)


def user(account: str, name: str, *keys: AccessKey, path: str = "/") -> User:
    """A user of an account."""
    return User(name, f"arn:aws:iam::{account}:user{path}{name}", keys, NOW - timedelta(days=800))


def account(name: str, *users: User, alias: str = "", root_keys: int = 0) -> Account:
    """An account that was read."""
    return Account(
        name, "aws", tuple(sorted(users, key=lambda received: received.name)), NOW, alias, root_keys=root_keys
    )


def accounts() -> tuple[Account, ...]:
    """The company's accounts."""
    fine = [
        user(PROD, f"svc-{number:02d}", key(100 + number, 4 + number * 23, number / 3))
        for number in range(30)
    ]
    prod = account(
        PROD,
        *fine,
        user(PROD, "billing-app", key(1, 412, 0.2), key(2, 21, 0.1)),
        user(PROD, "data-export", key(3, 88, 0.5), key(4, 700, 320), path="/batch/"),
        user(PROD, "deploy-old", key(5, 230, 12), key(6, 190, 90)),
        user(PROD, "etl", key(7, 30, 1), key(8, 60, 70), key(9, 10, 0.3)),
        user(PROD, "vault-root", key(10, 12, 0.1), key(11, 40, 3)),
        user(PROD, "contractor", key(12, 900, None, INACTIVE), key(13, 500, None, INACTIVE)),
        user(PROD, SCRIPT, key(14, 33, 2), key(15, 66, None)),
        alias="acme-prod",
    )
    denied = User("no-entry", f"arn:aws:iam::{DEV}:user/no-entry", Unreadable("access keys", "AccessDenied"))
    dev = account(
        DEV,
        user(DEV, "billing-app", key(20, 15, 1)),
        user(DEV, BACKWARDS, key(21, 15, 1), key(22, 95, 60)),
        user(DEV, HEBREW, key(23, 45, 1), key(24, 75, 50)),
        user(DEV, FORMULA, key(25, 45, 1), key(26, 75, 50)),
        user(DEV, ESCAPE, key(27, 45, 1), AccessKey("AKIADEMO000000000028", ACTIVE, None, NOT_READ)),
        denied,
        alias="acme-dev",
        root_keys=1,
    )
    shut = Account(
        SHUT, "aws", Unreadable("users", "AccessDenied: not allowed to assume sparekey-audit"), NOW
    )
    return prod, dev, shut


def audit(*received: Account, rules: tuple[str, ...] = RULES, cis: str = "4.0") -> Audit:
    """An audit of the company, or of other accounts."""
    return assess(Snapshot(NOW, CALLER, received or accounts()), POLICY, NOW, rules, cis)


def run(state: RunState = "watching") -> RunRecord:
    """A run over the company: steps in several states."""
    return RunRecord(
        id="20260301-1204-7f3a",
        plan_digest="5f3c9a" * 10 + "5f3c",
        caller=CALLER.arn,
        state=state,
        opened=NOW + timedelta(minutes=4),
        updated=NOW + timedelta(hours=3),
        steps=(
            _step("data-export", 3, 4, "watching", decided="[idle] not used for 320 d", ids=("9f1c-aa",)),
            _step("etl", 9, 8, "settled", decided="[idle] not used for 70 d", ids=("1d2e-bb", "1d2e-cc")),
            _step(
                SCRIPT,
                14,
                15,
                "rolled_back",
                decided="[idle] never used",
                why="reactivated because a probe became unhealthy",
                ids=("77-1", "77-2"),
            ),
            _step(
                "billing-app",
                2,
                1,
                "held",
                decided="[used] still used by boto3 from 10.1.2.3",
                release="move it to the new key",
            ),
            _step(
                "deploy-old",
                None,
                5,
                "failed",
                decided="[idle] not used for 90 d",
                why="AccessDenied: not allowed to call UpdateAccessKey",
            ),
        ),
        entries=23,
        head="ab12" * 16,
        wave=1,
        waves=2,
        watch_until=NOW + timedelta(days=3),
        notes=("probe https://shop.example/health became unhealthy: 503",),
    )


def _step(
    name: str,
    keep: int | None,
    goes: int,
    state: StepState,
    *,
    decided: str,
    why: str = "",
    release: str = "",
    ids: tuple[str, ...] = (),
) -> StepRecord:
    kept = f"AKIADEMO{keep:012d}" if keep is not None else None
    going = f"AKIADEMO{goes:012d}"
    before: Mapping[str, str] = {going: ACTIVE} | ({kept: ACTIVE} if kept else {})
    after = {**before, going: INACTIVE} if state in ("watching", "settled") else before
    changed = NOW + timedelta(minutes=6) if ids else None
    return StepRecord(
        account=PROD,
        user=name,
        keep=kept,
        key=going,
        state=state,
        decided=decided,
        why=why,
        release=release,
        request_ids=ids,
        before=before if ids else {},
        after=after if ids else {},
        changed_at=changed,
    )
