"""What every run promises, however it was cut off: asked of the ledger and of AWS."""

from collections import Counter
from collections.abc import Iterable

from sparekey.ledger.store import Ledger
from sparekey.runs.projection import RunProjection


def assert_invariants(ledger: Ledger, runs: Iterable[str], writes: Iterable[tuple[str, str, str]]) -> None:
    """Assert that no key was written twice without a reason, and that no intent is unresolved."""
    intents: Counter[tuple[str, str]] = Counter()
    for run in runs:
        reasons(ledger, run, intents)
        for key, facts in RunProjection(ledger.entries(run)).facts.items():
            assert facts.intent is None, f"the intent for {key} is unresolved: {facts}"
        assert ledger.verify(run).broken == ()
    for (_, name, status), count in Counter(writes).items():
        assert count <= intents[name, status], f"{name} was set {status} {count} times"


def reasons(ledger: Ledger, run: str, intents: Counter[tuple[str, str]]) -> None:
    """Assert that something was said between two like intents of a key; count the intents."""
    last: dict[str, str] = {}
    for entry in ledger.entries(run):
        key = str(entry.body.get("key", ""))
        if entry.kind == "intent":
            what = f"intent {entry.body['status']}"
            intents[key, str(entry.body["status"])] += 1
            assert last.get(key) != what, f"entry {entry.seq} repeats an intent of which nothing was said"
            last[key] = what
        elif key:
            last[key] = entry.kind
