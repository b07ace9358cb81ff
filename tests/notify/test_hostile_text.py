"""What others name or answer cannot add a line to a message, move a cursor or fill a page."""

from datetime import UTC, datetime

from sparekey.ledger.events import ProbeChanged, RunStopped, event_body, kind_of
from sparekey.ledger.records import LedgerEntry
from sparekey.model import RunRecord, StepRecord
from sparekey.notify import of_rollback
from sparekey.probes import OUTPUT_LIMIT
from sparekey.runs.projection import RunProjection

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = "a\r\nBcc: b\x1b[2J\u202e" + "x" * 5000


def test_a_subject_is_one_line() -> None:
    step = StepRecord("111122223333", HOSTILE, None, "AKIA1", "rolled_back", "[idle]", why=HOSTILE)
    record = RunRecord("r-1", "", "arn", "rolled_back", NOW, NOW, (step,), 1, "")
    message = of_rollback(record, step)
    assert message.subject.isprintable()
    assert len(message.subject) == 200
    assert "\x1b" not in message.text + str(message.data["why"])


def test_an_answer_in_an_older_ledger_is_one_short_line_in_a_runs_notes() -> None:
    fold = RunProjection()
    answers: tuple[ProbeChanged | RunStopped, ...] = (
        ProbeChanged("web", healthy=False, output=HOSTILE),
        RunStopped("probe web", HOSTILE),
    )
    for seq, result in enumerate(answers, 1):
        fold.add(LedgerEntry("r-1", seq, NOW, kind_of(result), event_body(result), "", ""))
    notes = fold._flags.notes
    assert len(notes) == 2
    for note in notes:
        assert note.isprintable()
        assert len(note) < OUTPUT_LIMIT + 40
