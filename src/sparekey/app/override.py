"""What a person overruled in a plan: --force, --keep and --keep-old, and whether it is known that a person did."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.decision import Overrides
from sparekey.errors import BadInputError, RefusedError
from sparekey.formatting import span
from sparekey.plan import Plan, Step
from sparekey.policy import Policy

_LAST_USE = "iam:GetAccessKeyLastUsed"


def describe_overrides(plan: Plan, policy: Policy, now: datetime) -> tuple[str, ...]:
    """Each override of a plan in a sentence, with what AWS reports of the key."""
    return tuple(_describe(plan, policy, now))


def _describe(plan: Plan, policy: Policy, now: datetime) -> Iterator[str]:
    steps = {step.key: step for step in plan.steps}
    for key, because in sorted(plan.overrides.force.items()):
        step = steps.get(key)
        if step is None:
            yield f"--force {key}: the plan has no step for it"
            continue
        exempt = policy.exemption("two-active-keys", step.account, step.user, now)
        yield (
            f"--force {key} (user {step.user} in account {step.account}; {_last_use(step)}): {because}"
            + (f"; policy exempts this user until {exempt.expires} ({exempt.owner})" if exempt else "")
        )
    for key in plan.overrides.keep:
        kept = next((step for step in plan.steps if step.keep == key), None)
        whose = f" (user {kept.user} in account {kept.account})" if kept else ": no user of the plan keeps it"
        yield f"--keep {key}{whose}"
    if plan.overrides.keep_old:
        yield f"--keep-old: a kept key may be older than {span(policy.max_key_age)}"


def _last_use(step: Step) -> str:
    facts = (fact.fact for fact in step.evidence if (fact.source, fact.key) == (_LAST_USE, step.key))
    return next(facts, "last use not read")


def unrepeated_overrides(overrides: Overrides, repeated: Overrides) -> tuple[str, ...]:
    """The overrides, as options, that the person did not name again; BadInputError for one not in the plan."""
    mine, theirs = _as_options(repeated), _as_options(overrides)
    for option in mine:
        if option not in theirs:
            raise BadInputError(
                f"{option}: the plan has no such override",
                "apply adds none: name the key when you plan (sparekey plan -o plan.json --force KEY …).",
            )
    return tuple(option for option in theirs if option not in mine)


def _as_options(overrides: Overrides) -> tuple[str, ...]:
    return (
        *(f"--force {key}" for key in sorted(overrides.force)),
        *(f"--keep {key}" for key in sorted(overrides.keep)),
        *(("--keep-old",) if overrides.keep_old else ()),
    )


def unconfirmed_error(unconfirmed: tuple[str, ...]) -> RefusedError:
    """The refusal of a plan whose overrides nobody has confirmed."""
    return RefusedError(
        f"this state did not make the plan, and its overrides are not confirmed: {', '.join(unconfirmed)}",
        "Apply it without --yes and confirm, or name each override again with --yes. Nothing was changed.",
    )
