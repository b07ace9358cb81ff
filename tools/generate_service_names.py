"""Write src/sparekey/service_names.py's table from botocore's service models; `--check` only compares."""

import gzip
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore

FILE = Path(__file__).parents[1] / "src" / "sparekey" / "service_names.py"
_BLOCK = re.compile(r'(?<=_TABLE = """\\\n).*?(?=""")', re.DOTALL)
_DATA = Path(botocore.__file__).parent / "data"


def services() -> list[str]:
    """Every service of the botocore that is installed."""
    return sorted(path.name for path in _DATA.iterdir() if any(path.glob("*/service-2.json*")))


def names_of(service: str) -> list[str]:
    """Every name that botocore has for a service: its own, those it signs and resolves hosts with, its id."""
    metadata = _metadata(max(_DATA.glob(f"{service}/*/service-2.json*")))
    found = [service, metadata["endpointPrefix"], metadata.get("signingName", "")]
    found.append(str(metadata.get("serviceId", "")).replace(" ", "-"))
    return sorted({name.lower() for name in found if name})


def _metadata(path: Path) -> dict[str, Any]:
    """The metadata of a model, which stands near its beginning: the whole of many is a lot to parse."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        text = file.read(1 << 14).decode(errors="ignore")
    start = re.search(r'"metadata"\s*:\s*', text)
    assert start, path
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text, start.end())[0]
    return found


def table() -> str:
    """One word for each service, its names joined by "=", wrapped."""

    def words() -> Iterator[str]:
        for service in services():
            yield "=".join(names_of(service))

    text = " ".join(sorted(set(words())))
    return "\n".join(textwrap.wrap(text, 110, break_long_words=False, break_on_hyphens=False)) + "\n"


def main() -> int:
    """Rewrite the table; with --check, 1 where it would change."""
    before = FILE.read_text()
    after = _BLOCK.sub(lambda _: table(), before, count=1)
    if "--check" in sys.argv:
        return int(before != after)
    FILE.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
