"""The base of our errors: each class has its message, its hint and its exit code."""

import re
from typing import ClassVar


def without_password(text: str) -> str:
    """The text with the user and password of every address in it (`https://user:password@host`) left out."""
    return re.sub(r"(?<=://)[^/\s@\"'?#]*@(?=[\w\[])", "", text)


class SparekeyError(Exception):
    """A failure as one sentence for a person, with a hint and an exit code; an address loses its password."""

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
    """A guard refused; nothing was changed."""


class UnreadError(SparekeyError):
    """Something that had to be read could not be."""

    exit_code = 4


class UnexpectedError(SparekeyError):
    """Stands for an error that nobody foresaw: its type and place; its text may hold a secret and is left out."""

    default_hint: ClassVar[str] = (
        "SPAREKEY_DEBUG=1 shows the way to it, without texts; `sparekey runs` shows what was done."
    )

    @classmethod
    def of(cls, error: BaseException) -> "UnexpectedError":
        """The same error as far as it may be shown."""
        return cls(f"unexpected error: {kind_and_place(error)}")


def kind_and_place(error: BaseException) -> str:
    """An error's type, and the last line of sparekey that it passed: "KeyError (aws/client.py, line 300)"."""
    ours = [place for place in _places(error) if place.startswith("sparekey/")]
    return type(error).__name__ + (f" ({ours[-1].removeprefix('sparekey/')})" if ours else "")


def trace(error: BaseException) -> list[str]:
    """The types and places of an error and of those behind it, the first one first; never their texts."""
    chain: list[BaseException] = []
    behind: BaseException | None = error
    while behind is not None and behind not in chain:
        chain.insert(0, behind)
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return [
        line
        for error_ in chain
        for line in (type(error_).__name__, *(f"  {place}" for place in _places(error_)))
    ]


def _places(error: BaseException) -> list[str]:
    """Where an error went through, from the outermost call to the innermost: file, line and function."""
    places, step = [], error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        file = code.co_filename.replace("\\", "/").rpartition("/site-packages/")[2]
        at = file.rfind("/sparekey/")
        places.append(f"{file[at + 1 :] if at >= 0 else file}, line {step.tb_lineno}, in {code.co_name}")
        step = step.tb_next
    return places
