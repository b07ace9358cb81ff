"""The bytes of a file as the text that is searched and parsed: inflated, and in UTF-8.

The search for ids and the parser must see the same text. So whatever the parser could decode by itself (UTF-16,
UTF-32, a byte order mark) is decoded here first, and what is packed in a way not known here is refused by name.
"""

import bz2
import json
import lzma
from collections.abc import Callable
from typing import Any

from isal import isal_zlib

from sparekey.usage.bounds import LARGEST, TOO_LARGE, ForeignTextError

_MAX_MEMBERS = 1_000_000
_LAYERS = 3  # a file packed in a packed file
_FIRST_WINDOW, _LARGEST_WINDOW = 1 << 8, 1 << 20
_LZMA_MEMORY = 256 << 20
_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
# As CloudTrail begins every file; a text that begins so is in UTF-8.
_MAGIC = b'{"'
# Formats that are recognised and not read. https://www.iana.org/assignments/media-types/ names most of them.
_REFUSED = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"\xff\x06\0\0sNaPpY", "compressed with snappy"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x9d", "compressed with compress"),
    (b"LZIP", "compressed with lzip"),
    (b"\x5d\0\0", "compressed with lzma"),
    (b"PAR1", "a Parquet file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"Salted__", "encrypted"),
    (b"age-encryption.org", "encrypted"),
    (b"-----BEGIN PGP", "encrypted"),
)


def _raised_by_isal() -> type[Exception]:
    """The library's exception; its type stubs take it for a value."""
    error: object = isal_zlib.error
    return error if isinstance(error, type) and issubclass(error, Exception) else Exception


_BadGzip = _raised_by_isal()
_BAD = (_BadGzip, OSError, EOFError, lzma.LZMAError)


def decompressed(data: bytes) -> bytes:
    """The text of a file, in UTF-8 without a byte order mark; raises ForeignError.

    Gzip, bzip2 and xz are unpacked, with any number of members and up to three layers deep.
    """
    text = _gzip_content(data) if data.startswith(_GZIP) else data
    if text.startswith(_MAGIC):
        return text
    for _ in range(_LAYERS - 1):
        if text.startswith(_GZIP):
            text = _gzip_content(text)
        elif text.startswith(_BZIP2):
            text = _members(text, LARGEST, bz2.BZ2Decompressor, "bzip2")
        elif text.startswith(_XZ):
            text = _members(text, LARGEST, _xz, "xz")
        else:
            break
    return text if text.startswith(_MAGIC) else _decoded_text(text)


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)


def _gzip_content(data: bytes) -> bytes:
    """The content of a gzip file; the first member, which nearly always is all of it, in one go."""
    member = isal_zlib.decompressobj(wbits=31)
    try:
        # The last member's size stands at the end: with it the buffer need not double beyond the text.
        text = member.decompress(data, min(int.from_bytes(data[-4:], "little") + 1, LARGEST))
        if not member.eof and len(text) < LARGEST:
            text += member.decompress(member.unconsumed_tail, LARGEST - len(text))
    except _BadGzip as error:
        raise ForeignTextError(f"not a gzip file: {error}") from error
    if not member.eof:
        raise ForeignTextError(TOO_LARGE if len(text) >= LARGEST else "the gzip data is cut short")
    if not (rest := member.unused_data):
        return text
    return text + _members(rest, LARGEST - len(text), lambda: isal_zlib.decompressobj(wbits=31), "gzip")


def _members(data: bytes, room: int, begin: Callable[[], Any], name: str) -> bytes:
    """The content of compressed members, one after the other; zeros between them are padding.

    Each is given a window of the data that grows: what it leaves is copied, and members may be many and small.
    """
    parts: list[bytes] = []
    at = count = 0
    while at < len(data):
        if data[at] == 0:
            at = _skip_zeros(data, at)
            continue
        count += 1
        if room <= 0 or count > _MAX_MEMBERS:
            raise ForeignTextError(TOO_LARGE)
        text, at = _member(data, at, room, begin(), name)
        parts.append(text)
        room -= len(text)
    return b"".join(parts)


def _member(data: bytes, at: int, room: int, stream: Any, name: str) -> tuple[bytes, int]:
    """The content of the member that begins at `at`, and where it ends."""
    parts: list[bytes] = []
    window = _FIRST_WINDOW
    while not stream.eof:
        piece = data[at : at + window]
        at += len(piece)
        window = min(2 * window, _LARGEST_WINDOW)
        text = _decompress_step(stream, piece, room + 1, name)
        room -= len(text)
        if room < 0:
            raise ForeignTextError(TOO_LARGE)
        parts.append(text)
        if not stream.eof and not piece and not text:
            raise ForeignTextError(f"the {name} data is cut short")
    return b"".join(parts), at - len(stream.unused_data)


def _decompress_step(stream: Any, piece: bytes, most: int, name: str) -> bytes:
    # isal's (and zlib's) stream gives back what it did not take, the others keep it.
    tail = getattr(stream, "unconsumed_tail", b"")
    try:
        text: bytes = stream.decompress(tail + piece, most)
    except _BAD as error:
        raise ForeignTextError(f"not a {name} file: {error}") from error
    return text


def _skip_zeros(data: bytes, at: int) -> int:
    """The first place from `at` on that holds no zero."""
    while at < len(data):
        piece = data[at : at + _LARGEST_WINDOW]
        left = piece.lstrip(b"\0")
        if left:
            return at + len(piece) - len(left)
        at += len(piece)
    return at


def _decoded_text(text: bytes) -> bytes:
    """The text in UTF-8, whatever encoding of JSON it is in; https://www.rfc-editor.org/rfc/rfc4627#section-3."""
    for magic, what in _REFUSED:
        if text.startswith(magic):
            raise ForeignTextError(f"it is {what}: unpack it")
    if text[257:262] == b"ustar":
        raise ForeignTextError("it is a tar archive: unpack it")
    encoding = json.detect_encoding(text)
    if encoding == "utf-8":
        return text
    try:
        return text.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise ForeignTextError(f"not JSON: it is not text in {encoding}: {error.reason}") from error
