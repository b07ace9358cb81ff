"""The rooms of `src/sparekey`: what each holds and which others it may import.

`tests/test_architecture.py` holds the code to this table, and `tools/generate_docs.py` writes it into
`docs/explanation/architecture.md`. `errors` is how any room refuses, so any room but `NO_ERRORS` may import it
(docs/adr/0003); `clock` names a protocol, and only rooms with I/O are given one (docs/adr/0001).
"""

from collections.abc import Set
from typing import NamedTuple


class Room(NamedTuple):
    """One room: what it holds, and the rooms of ours that it may import beside itself."""

    holds: str
    imports: Set[str]


DECIDING = frozenset(
    {
        "model",
        "states",
        "formatting",
        "patterns",
        "policy",
        "service_names",
        "rules",
        "decision",
        "cutover",
        "selection",
        "rotation",
        "plan",
        "planner",
        "revalidation",
        "guards",
    }
)
_READING = frozenset({"aws", "usage", "audit"})
_EXECUTING = DECIDING | _READING | {"ledger", "probes", "handover", "runs", "clock", "ownership"}

ROOMS: dict[str, Room] = {
    "errors": Room("the base of our errors: message, hint, exit code", frozenset()),
    "clock": Room("the one clock, injected wherever time matters", frozenset()),
    "model": Room("the nouns: accounts, users, keys, findings, usage, runs", frozenset()),
    "states": Room(
        "the states of a step and of a run: label, group, finished, undoable", frozenset({"model"})
    ),
    "formatting": Room("spans, counts and times as text; foreign text made harmless", frozenset({"model"})),
    "plugins": Room("finds the modules of a plug-in room", frozenset()),
    "redirects": Room("HTTP requests that follow no redirect", frozenset()),
    "patterns": Room("regular expressions that end in linear time", frozenset()),
    "documents": Room("TOML and YAML files within bounds", frozenset({"patterns"})),
    "policy": Room(
        "`sparekey.toml` to a frozen, checked `Policy`", frozenset({"model", "patterns", "formatting"})
    ),
    "ownership": Room("files and directories that only their owner may write", frozenset()),
    "settings": Room(
        "where state and policy live, and the policy that is loaded",
        frozenset(
            {
                "model",
                "policy",
                "prowler_mutelist",
                "documents",
                "ownership",
                "rules",
                "probes",
                "handover",
                "runs",
            }
        ),
    ),
    "prowler_mutelist": Room(
        "exemptions from a mutelist of Prowler",
        frozenset({"model", "policy", "rules", "patterns", "documents"}),
    ),
    "rules": Room(
        "what counts as a finding: one rule a module",
        frozenset({"model", "policy", "formatting", "plugins"}),
    ),
    "service_names": Room("IAM's namespaces and CloudTrail's event sources, matched", frozenset()),
    "decision": Room(
        "what a decision rests on: policy, time, caller, overrides, usages", frozenset({"model", "policy"})
    ),
    "cutover": Room(
        "have a key's consumers moved to the key that is kept?",
        frozenset({"model", "policy", "decision", "service_names", "formatting"}),
    ),
    "selection": Room(
        "which key of a user is kept, deactivated or held",
        frozenset({"model", "policy", "decision", "cutover", "service_names", "formatting"}),
    ),
    "rotation": Room(
        "whose key is replaced by a new one, and what stands in the way",
        frozenset({"model", "policy", "decision", "selection", "service_names", "formatting"}),
    ),
    "plan": Room(
        "the plan, its digest and its file", frozenset({"model", "policy", "decision", "formatting"})
    ),
    "planner": Room(
        "from what was read to a plan",
        frozenset({"model", "policy", "decision", "selection", "rotation", "plan"}),
    ),
    "revalidation": Room(
        "a plan decided again from fresh readings",
        frozenset({"model", "plan", "planner", "decision", "policy", "formatting"}),
    ),
    "guards": Room("the flat list of reasons to refuse a plan", frozenset({"model", "plan", "formatting"})),
    "aws": Room("everything that talks to AWS", frozenset({"model", "clock", "documents"})),
    "usage": Room(
        "who calls with which key, from CloudTrail's sources",
        frozenset({"model", "aws", "clock", "plugins"}),
    ),
    "audit": Room(
        "reads accounts in parallel into one `Snapshot`",
        frozenset({"model", "policy", "rules", "aws", "clock"}),
    ),
    "ledger": Room(
        "the append-only record of runs: store, events, copies, verification",
        frozenset({"model", "clock", "plan", "formatting", "ownership"}),
    ),
    "probes": Room(
        "health checks: one kind a module",
        frozenset({"model", "policy", "patterns", "formatting", "clock", "plugins", "redirects"}),
    ),
    "handover": Room(
        "where a new key's secret is put: one destination a module; the only room that sees a secret",
        frozenset({"model", "policy", "aws", "formatting", "plugins", "redirects", "ownership", "documents"}),
    ),
    "runs": Room("executes plans, monitors keys, rolls back", _EXECUTING),
    "report": Room(
        "one output format a module",
        frozenset({"model", "states", "plan", "rules", "usage", "formatting", "clock", "plugins"}),
    ),
    "notify": Room(
        "one notification channel a module",
        frozenset({"model", "states", "plan", "formatting", "plugins", "redirects"}),
    ),
    "app": Room(
        "one function a command: what the CLI, the console and workers call",
        _EXECUTING | {"settings", "prowler_mutelist", "report", "notify", "sandbox", "demo"},
    ),
    "console": Room(
        "the web console: renders and parses", frozenset({"app", "model", "states", "report", "formatting"})
    ),
    "cli": Room(
        "the command line: renders and parses",
        frozenset({"app", "console", "model", "states", "report", "formatting"}),
    ),
    "sandbox": Room("a practice AWS on loopback that shares no code with what it judges", frozenset()),
    "demo": Room("the whole job on the sandbox", frozenset({"sandbox"})),
    "__init__": Room("the version", frozenset()),
    "__main__": Room("`python -m sparekey`", frozenset({"cli"})),
}
NO_ERRORS = frozenset({"errors", "clock", "model", "states", "sandbox", "__init__"})

# The sandbox judges the rest, so only the commands that start one import it, and only when they run.
LATE = frozenset({"sandbox", "demo"})

# A room of pure functions imports nothing that could read the time, the machine or a network.
PURE = DECIDING | {"errors"}
