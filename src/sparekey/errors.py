"""The base of our errors: each class carries its message, its hint and its exit code."""

from typing import ClassVar


class SparekeyError(Exception):
    """A failure told to a person in one sentence, with a hint and an exit code."""

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint


class BadInputError(SparekeyError):
    """What was asked cannot be understood; nothing was read or changed."""

    exit_code = 2


class RefusedError(SparekeyError):
    """A guard said no; nothing was changed."""


class UnreadError(SparekeyError):
    """Something that had to be read could not be."""

    exit_code = 4
