"""Errors of the sandbox: for a person, and for an AWS client."""


class SandboxError(Exception):
    """The sandbox cannot do what a person asked: one sentence, a hint and an exit code."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ErrorReplyError(Exception):
    """An error answer of AWS: code, message and HTTP status, before a protocol has put them into words."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def invalid(message: str) -> ErrorReplyError:
    """A parameter that AWS refuses before it looks at anything."""
    return ErrorReplyError("ValidationError", message, 400)


def no_such(message: str) -> ErrorReplyError:
    """IAM does not know the entity."""
    return ErrorReplyError("NoSuchEntity", message, 404)
