"""Where an archive lies: a local folder, or a bucket (`buckets`)."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from sparekey.errors import BadInputError
from sparekey.usage.archive.delivering_services import delivering_service
from sparekey.usage.bounds import LARGEST, TOO_LARGE

_ASKED_FOR_SIZE = 16
_ROOM = 1 << 16
_PIECE = 1 << 26


Found = tuple[str, int]
"""One file: its path below the place's root, and about how many bytes it has."""


class FolderListing(NamedTuple):
    """What is directly in a folder, by paths below the place's root, sorted; `unread` is why each is neither."""

    folders: list[str]
    files: list[Found]
    unread: list[tuple[str, str]]


class ArchiveStorage(Protocol):
    """A tree of files that a worker process can be given; reading raises OSError."""

    @property
    def root(self) -> str:
        """The whole path, for the account and region in it."""
        ...

    @property
    def single_file(self) -> str | None:
        """The one file that is meant, where it is not all of them."""
        ...

    def identity(self, folder: str) -> object:
        """What is the same for a folder by whichever path it is reached."""
        ...

    def children(self, folder: str) -> FolderListing:
        """The folders and files directly in a folder."""
        ...

    def fetch(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        """The content of files, in order, or why it could not be read."""
        ...


@dataclass(frozen=True)
class LocalStorage:
    """A folder, or one file, of this machine."""

    path: Path
    single_file: str | None = None

    @property
    def root(self) -> str:
        """The absolute path."""
        return self.path.absolute().as_posix()

    def identity(self, folder: str) -> object:
        """Device and inode."""
        status = (self.path / folder).stat()
        return status.st_dev, status.st_ino

    def children(self, folder: str) -> FolderListing:
        """Links are followed; one to a folder of this archive leads to what is read anyway.

        One file in sixteen is asked for its size, which is the next ones' too: asking costs half of a small
        file's reading, and of sizes no more hangs than how many files are read at a time.
        """
        listing = FolderListing([], [], [])
        files = listing.files
        size = 0
        before = f"{folder}/" if folder else ""
        with os.scandir(self.path / folder) as items:
            for item in items:
                name = before + item.name
                if self.single_file is not None and self.single_file != name:
                    continue
                try:
                    if item.is_dir(follow_symlinks=False):
                        listing.folders.append(name)
                    elif item.is_file():
                        if len(files) % _ASKED_FOR_SIZE == 0:
                            size = item.stat().st_size
                        files.append((name, size))
                    else:
                        self._unread_reason(item, name, listing)
                except OSError as error:
                    listing.unread.append((name, error.strerror or str(error)))
        return FolderListing(sorted(listing.folders), sorted(files), sorted(listing.unread))

    def _unread_reason(self, item: "os.DirEntry[str]", name: str, listing: FolderListing) -> None:
        """Sort in what is no file, and no folder but by a link."""
        if item.is_dir():
            root, real = os.path.realpath(self.path), os.path.realpath(item.path)
            if _within(root, real) and root != real:
                listing.unread.append((name, "a link to a folder above the archive is not followed"))
            elif not _within(real, root) or delivering_service(real):
                listing.folders.append(name)
        elif item.is_symlink() and not Path(item.path).exists():
            listing.unread.append((name, "a link to nothing"))
        else:
            listing.unread.append((name, "it is no file: a pipe, a socket or a device"))

    def fetch(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
        """One file after the other: the page cache needs no help."""
        root = str(self.path)
        for name in names:
            try:
                data: bytes | OSError = _content(f"{root}/{name}")
            except OSError as error:
                data = error
            yield name, data


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _content(path: str) -> bytes:
    """A file, in few system calls: small ones cost little else.

    A packed file that changes meanwhile shows it by its own checksum; any other is asked for its state twice.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place would wait for a writer
    try:
        before = None if path.endswith(".gz") else _file_status(file)
        data = os.read(file, _ROOM)
        if len(data) == _ROOM:
            data += _remaining(file)
        elif more := os.read(file, _ROOM):
            data += more + _remaining(file)
        if before is not None and not (before == _file_status(file) and before[0] == len(data)):
            raise OSError("it changed while it was read")
    finally:
        os.close(file)
    return data


def _file_status(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_size, status.st_mtime_ns


def _remaining(file: int) -> bytes:
    """What follows the first part of a file, as far as a log file may reach; raises OSError."""
    size = os.fstat(file).st_size
    parts: list[bytes] = []
    room = LARGEST
    while room >= 0 and size <= LARGEST:
        more = os.read(file, max(_ROOM, min(size, _PIECE)))
        if not more:
            return b"".join(parts)
        parts.append(more)
        size, room = size - len(more), room - len(more)
    raise OSError(TOO_LARGE)


def open_storage(spec: str, *, profile: str | None = None, region: str | None = None) -> ArchiveStorage:
    """The place that `s3://bucket/prefix`, a folder or a file names; raises BadInputError."""
    if spec.startswith("s3://"):
        from sparekey.usage.archive.s3_storage import S3Storage  # noqa: PLC0415 - an extra, and heavy

        if not S3Storage(spec).bucket:
            raise BadInputError(f"{spec} names no bucket", "Write s3://bucket/prefix.")
        return S3Storage(spec, profile, region)
    path = Path(spec).expanduser()
    if path.is_file():
        return LocalStorage(path.parent, path.name)
    if path.is_dir():
        return LocalStorage(path)
    raise BadInputError(f"there is no archive at {spec}", "Name a folder, a file or s3://bucket/prefix.")
