"""The log of a worker: lines for people, or one JSON object a line for a log pipeline."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from sparekey.cli.output import message
from sparekey.cli.run_events import event_text, is_detail, needs_attention
from sparekey.cli.verbosity import VERBOSITY

if TYPE_CHECKING:
    from sparekey.app import LedgerEntry

Level = Literal["info", "warning", "error"]


class WorkerLog:
    """Writes to stderr; `json_lines` as `{"time", "level", "message", …}`, else with a time where it is an event."""

    def __init__(self, *, json_lines: bool) -> None:
        self._json_lines = json_lines

    def write(self, text: str, level: Level = "info", at: datetime | None = None, **fields: Any) -> None:
        """Write one message; `fields` are added to its JSON object."""
        if not text or (level == "info" and VERBOSITY.level < 0):
            return
        if self._json_lines:
            time = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
            known = {name: value for name, value in fields.items() if value}
            message(json.dumps({"time": time, "level": level, "message": text, **known}, ensure_ascii=False))
        else:
            message(f"{at:%H:%M:%S}Z  {text}" if at else text)

    def event(self, entry: "LedgerEntry") -> None:
        """Write an entry of the ledger: a probe that turned, a key that is written, a reactivation and its reason."""
        text = event_text(entry)
        if not text or (is_detail(entry) and VERBOSITY.level <= 0):
            return
        body = entry.body
        self.write(
            text if "key" not in body else f"run {entry.run}  {text}",
            "warning" if needs_attention(entry) else "info",
            entry.at,
            event=entry.kind,
            run=entry.run,
            **{
                name: body.get(name)
                for name in ("account", "user", "key", "status", "probe", "why", "because")
            },
        )
