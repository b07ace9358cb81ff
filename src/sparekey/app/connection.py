"""Who asks, whom, by which policy, where and at what time: what every verb is given."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

from sparekey.aws.accounts import AccountAccess as RoleEntry
from sparekey.aws.accounts import SelectedAccounts, Target
from sparekey.aws.gateway import AccountGateway, AwsGateway
from sparekey.clock import Clock, SystemClock
from sparekey.errors import BadInputError, RefusedError
from sparekey.model import Caller, Value
from sparekey.policy import Policy, Span
from sparekey.settings import load_policy

OnProgress = Callable[[int, int | None], None]


def ignore_progress(_done: int, _total: int | None) -> None:
    """Ignore progress."""


class AccountChoice(Value, frozen=True, kw_only=True):
    """Which accounts are meant, and how other accounts than the caller's own are entered."""

    org: bool = False
    accounts_file: Path | None = None
    units: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    entry: RoleEntry = RoleEntry()


class Connection:
    """What every verb needs: whom to ask, by which policy, at what time."""

    def __init__(
        self,
        gateway: AwsGateway,
        policy: Policy,
        clock: Clock,
        where: AccountChoice,
        *,
        profile: str = "",
        region: str = "",
        config: Path | None = None,
    ) -> None:
        self.config = config
        self.gateway = gateway
        self.policy = policy
        self.clock = clock
        self.account_choice = where
        self.profile = profile
        self.region = region

    def selected_accounts(self) -> SelectedAccounts:
        """The accounts that are meant; raises AwsError, and BadInputError where one cannot be entered."""
        where = self.account_choice
        if where.accounts_file:
            return self.gateway.accounts_file(
                where.accounts_file, include=where.include, exclude=where.exclude
            )
        if where.org:
            return self.gateway.organization(
                units=where.units, include=where.include, exclude=where.exclude, entry=where.entry
            )
        return SelectedAccounts((Target(self.gateway.account),))

    def caller(self, accounts: Collection[str] | None = None) -> Caller:
        """Who is asking, and every user and key that signs for us; raises AwsError and BadInputError.

        Of an accounts file, the profiles of the accounts that are meant are asked who they are, or of those in
        `accounts` alone; the static keys of all the others are protected by their id.
        """
        if self.account_choice.accounts_file:
            targets = self.selected_accounts().targets if accounts is None else self._all_targets()
            self.gateway.identify([target for target in targets if accounts is None or target.id in accounts])
        self._protect_probes()
        return self.gateway.caller()

    def _protect_probes(self) -> None:
        """A key that the policy passes to a probe's command is kept too: it checks whether applications work."""
        passed_on = {name for probe in self.policy.probes for name in probe.get("env", ())}
        probe_accounts = {
            name: os.environ[name]
            for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")
            if name in passed_on & set(os.environ)
        }
        self.gateway.protect_signing_key(
            key=probe_accounts.get("AWS_ACCESS_KEY_ID", ""), profile=probe_accounts.get("AWS_PROFILE", "")
        )

    def caller_now(self) -> Caller:
        """The same, asked again for whatever is in use here: just before a write. Raises AwsError."""
        return self.gateway.caller(again=True)

    def _all_targets(self) -> tuple[Target, ...]:
        file = self.account_choice.accounts_file
        return self.gateway.accounts_file(file).targets if file else ()

    def account(self, account: str) -> AccountGateway:
        """The way into one account; raises RefusedError for one that these credentials do not reach."""
        own = self.gateway.account
        if account == own:
            return self.gateway.own_account()
        if target := self.target(account):
            return self.gateway.enter(target)
        raise RefusedError(
            f"account {account} cannot be reached with credentials of account {own}",
            "Name the role to enter it by (--role), or the file that does (--accounts).",
        )

    def target(self, account: str) -> Target | None:
        """How another account than the caller's own is entered: its profile or roles; None where no way is named."""
        if account == self.gateway.account:
            return None
        if self.account_choice.accounts_file:
            return next((t for t in self.selected_accounts().targets if t.id == account), None)
        entry = self.account_choice.entry
        return entry.target(self.gateway.partition, account) if entry.role else None


OWN_ACCOUNT = AccountChoice()


def account_choice(
    *,
    org: bool = False,
    accounts_file: Path | None = None,
    units: tuple[str, ...] = (),
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    role: str = "",
    external_id: str = "",
    session_duration: str = "",
) -> AccountChoice:
    """Which accounts a person means; raises BadInputError for what does not go together."""
    if org and accounts_file:
        raise BadInputError("--org and --accounts both choose accounts", "Name one of them.")
    if (include or exclude) and not (org or accounts_file):
        raise BadInputError("no accounts to choose from were given", "Add --org or --accounts FILE.")
    if (external_id or session_duration) and not role:
        raise BadInputError(
            "--external-id and --session-duration belong to a role, and none is named",
            "Name it with --role; in an --accounts file both stand beside the account.",
        )
    try:
        seconds = int(Span.parse(session_duration).total_seconds()) if session_duration else 0
    except ValueError as error:
        raise BadInputError(f"--session-duration: {error}", 'Such as "1h".') from None
    entry = RoleEntry(role=role, external_id=external_id, session_duration=seconds)
    return AccountChoice(
        org=org, accounts_file=accounts_file, units=units, include=include, exclude=exclude, entry=entry
    )


def connect(
    *,
    profile: str | None = None,
    region: str | None = None,
    config: Path | None = None,
    where: AccountChoice = OWN_ACCOUNT,
    clock: Clock | None = None,
) -> Connection:
    """Read the policy and find the credentials; nothing is asked of AWS yet."""
    policy = load_policy(config)
    clock = clock or SystemClock()
    gateway = AwsGateway.connect(profile=profile, region=region, clock=clock)
    return Connection(
        gateway, policy, clock, where, profile=profile or "", region=region or "", config=config
    )
