"""Opening the console in a browser without its one-time token in a command line that other users can read."""

import os
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from markupsafe import escape

# `no-referrer`: a page of a file has no referrer today, and this keeps it so.
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>sparekey</title>
<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url={address}">
</head><body><p><a href="{address}">Open the sparekey console</a></p></body></html>
"""


@contextmanager
def redirect_file(address: str) -> Iterator[Path]:
    """A page for this user alone (mode 0600) that leads to `address`; it is removed at the end."""
    handle, name = tempfile.mkstemp(prefix="sparekey-console-", suffix=".html")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(address=escape(address)))
        yield path
    finally:
        path.unlink(missing_ok=True)


def open_page(path: Path) -> bool:
    """Open a local page in the user's browser; False where there is no browser."""
    return webbrowser.open(path.as_uri())
