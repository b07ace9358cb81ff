"""The verbs that practise: the sandbox and the demo."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sparekey.app.practice_rotation import rotation
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
    from sparekey.sandbox import SandboxError  # noqa: PLC0415

    try:
        yield from stages(rotation)
    except SandboxError as error:
        raise BadInputError(error.message, error.hint) from error


@contextmanager
def practice_company() -> Iterator[None]:
    """Point this process at the practice company, with a state directory that lasts as long."""
    from sparekey.demo import practice_console as served  # noqa: PLC0415  # needs the sandbox's extra

    before = dict(os.environ)
    with served() as (_folder, env):
        os.environ.clear()
        os.environ.update(env)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
