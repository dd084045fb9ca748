"""The tables of the documentation from results/*.yaml.

python -m benchmarks.results           writes them between their markers
python -m benchmarks.results --check   exit code 1 when one is stale, and which
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.results.record import load_results
from benchmarks.results.table import stale_pages
from benchmarks.results.tables import TABLES
from picoquant.errors import ConfigError
from picoquant.storage.files import write_text

ROOT = Path(__file__).resolve().parents[2]


def main(words: list[str]) -> int:
    """Exit code."""
    try:
        stale = stale_pages(ROOT, load_results(), TABLES)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if words == ["--check"]:
        for page in stale:
            print(f"{page.relative_to(ROOT)}: a table is not as results/*.yaml say; `make results` writes it")
        return 1 if stale else 0
    for page, text in stale.items():
        write_text(page, text)
        print(f"{page.relative_to(ROOT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
