"""A program of one's own: `command:PROGRAM WORD …` gets the key on its standard input, and nothing as an argument.

Its input is what a `credential_process` prints: `{"Version": 1, "AccessKeyId": …, "SecretAccessKey": …}`.
Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
"""

import json
import shlex

from sparekey.aws.access_keys import NewAccessKey
from sparekey.handover._after import find_program, run_program
from sparekey.handover.interface import HandoverError, HandoverTools, require_place
from sparekey.policy import FieldError, Handover


class CommandCopy:
    """Runs the program each time the key is published; it has to bear being run twice with the same key."""

    def __init__(self, place: str, handover: Handover, tools: HandoverTools) -> None:
        self._words = tuple(shlex.split(place))
        self._handover, self._environ = handover, tools.environ

    @staticmethod
    def check_place(place: str, handover: Handover) -> None:
        """Raise FieldError where no program is named."""
        del handover
        require_place(place, "command", "command:/usr/local/bin/put-key billing")
        try:
            shlex.split(place)
        except ValueError as error:
            raise FieldError("", f"{place!r} cannot be read as words: {error}") from None

    def check(self) -> tuple[str, ...]:
        """Raise where there is no such program; whether it would succeed is not asked."""
        if not find_program(self._words[0], self._environ, self._handover.env):
            raise HandoverError(
                f"there is no program {self._words[0]} that can be run", "Name it by its path."
            )
        return ()

    def write(self, key: NewAccessKey) -> None:
        """Run it; raises HandoverError where it does not end with 0."""
        content = {"Version": 1, "AccessKeyId": key.id, "SecretAccessKey": key.secret}
        run_program(self._words, self._handover, self._environ, json.dumps(content))

    def read_back(self) -> str | None:
        """None: a program shows nothing of what it did."""
        return None


COPY = CommandCopy
