"""How large a file may be, packed and unpacked, and the error for one that is no log."""

LARGEST = 1 << 29  # bytes; no CloudTrail file comes near it, a gzip bomb does
TOO_LARGE = "larger than 512 MiB"


class ForeignTextError(ValueError):
    """A file that is no CloudTrail log, or not a whole one."""
