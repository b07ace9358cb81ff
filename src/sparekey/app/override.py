"""What a person overruled in a plan: --force, --keep and --keep-old, and whether it is known that a person did."""

from collections.abc import Iterator
from datetime import datetime

from sparekey.errors import BadInputError, RefusedError
from sparekey.plan import Plan, Step
from sparekey.policy import Policy
from sparekey.selection import Asked

_LAST_USE = "iam:GetAccessKeyLastUsed"


def described(plan: Plan, policy: Policy, now: datetime) -> tuple[str, ...]:
    """Each override of a plan in a sentence, with what AWS says of the key."""
    return tuple(_described(plan, policy, now))


def _described(plan: Plan, policy: Policy, now: datetime) -> Iterator[str]:
    steps = {step.key: step for step in plan.steps}
    for key, because in sorted(plan.asked.force.items()):
        step = steps.get(key)
        if step is None:
            yield f"--force {key}: the plan has no step for it"
            continue
        exempt = policy.exemption("two-active-keys", step.account, step.user, now)
        yield (
            f"--force {key} (user {step.user} in account {step.account}; {_last_use(step)}): {because}"
            + (f"; policy exempts this user until {exempt.expires} ({exempt.owner})" if exempt else "")
        )
    for key in plan.asked.keep:
        kept = next((step for step in plan.steps if step.keep == key), None)
        of = f" (user {kept.user} in account {kept.account})" if kept else ": no user of the plan keeps it"
        yield f"--keep {key}{of}"
    if plan.asked.keep_old:
        yield f"--keep-old: a kept key may be older than {policy.max_key_age}"


def _last_use(step: Step) -> str:
    facts = (fact.fact for fact in step.evidence if (fact.source, fact.key) == (_LAST_USE, step.key))
    return next(facts, "last use not read")


def unrepeated(asked: Asked, repeated: Asked) -> tuple[str, ...]:
    """The overrides, as options, that the person did not name again; BadInputError for one not in the plan."""
    mine, theirs = _options(repeated), _options(asked)
    for option in mine:
        if option not in theirs:
            raise BadInputError(
                f"{option}: the plan has no such override",
                "apply adds none: name the key when you plan (sparekey plan -o plan.json --force KEY …).",
            )
    return tuple(option for option in theirs if option not in mine)


def _options(asked: Asked) -> tuple[str, ...]:
    return (
        *(f"--force {key}" for key in sorted(asked.force)),
        *(f"--keep {key}" for key in sorted(asked.keep)),
        *(("--keep-old",) if asked.keep_old else ()),
    )


def unconfirmed_error(unconfirmed: tuple[str, ...]) -> RefusedError:
    """The refusal of a plan whose overrides nobody has confirmed."""
    return RefusedError(
        f"this state did not make the plan, and nobody has confirmed what it overrules: {', '.join(unconfirmed)}",
        "Apply it without --yes and answer, or name each override again with --yes. Nothing was changed.",
    )
