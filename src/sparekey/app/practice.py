"""The verbs that practise: the sandbox and the demo."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from sparekey.errors import BadInputError


def sandbox(scenario: Path | None, port: int, out: TextIO) -> None:
    """Serve the practice AWS until interrupted; raises BadInputError for a scenario that cannot be read."""
    from sparekey.sandbox import SandboxError, serve  # noqa: PLC0415  # an extra: nobody else needs it

    try:
        serve(scenario, port, out)
    except SandboxError as error:
        raise BadInputError(str(error), error.hint) from error


def demo() -> Iterator[str]:
    """The whole job on the practice AWS, stage by stage."""
    from sparekey.demo import demo as stages  # noqa: PLC0415  # needs the sandbox's extra

    yield from stages()
