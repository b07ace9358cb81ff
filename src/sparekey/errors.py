"""The base of our errors: each class carries its message, its hint and its exit code."""

import re
from typing import ClassVar


def without_password(text: str) -> str:
    """The text with the user and password of every address in it (`https://user:password@host`) left out."""
    return re.sub(r"(?<=://)[^/\s@\"'?#]*@(?=[\w\[])", "", text)


class SparekeyError(Exception):
    """A failure told to a person in one sentence, with a hint and an exit code; an address loses its password."""

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = without_password(message)
        super().__init__(self.message)
        self.hint = without_password(hint) or self.default_hint


class BadInputError(SparekeyError):
    """What was asked cannot be understood; nothing was read or changed."""

    exit_code = 2


class RefusedError(SparekeyError):
    """A guard said no; nothing was changed."""


class UnreadError(SparekeyError):
    """Something that had to be read could not be."""

    exit_code = 4
