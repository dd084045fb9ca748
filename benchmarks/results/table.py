"""A table of the documentation that results/*.yaml fill, and the pages that tables stand on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from benchmarks.results.record import Result
from benchmarks.results.speed import Growth, Kernels, Speed
from picoquant.errors import ConfigError

Results = Mapping[str, "Result | Speed | Growth | Kernels"]
_BLOCK = re.compile(r"(<!-- results: (\S+) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        pages: where it stands, from the project's root.
        head: titles of the columns.
        rows: what makes the cells.
        uses: names of the results in it.
        picture: a line behind the table, or nothing.
    """

    pages: tuple[str, ...]
    head: tuple[str, ...]
    rows: Callable[[Results], list[Sequence[str]]]
    uses: tuple[str, ...]
    picture: Callable[[Results], str] = lambda results: ""

    def text(self, results: Results) -> str:
        """The table in Markdown.

        Raises: `ConfigError` naming a result that is not there.
        """
        for name in self.uses:
            if name not in results:
                raise ConfigError(f"results/{name}.yaml is not there; a table of {self.pages[0]} needs it")
        lines = [self.head, ["---"] * len(self.head), *self.rows(results)]
        picture = self.picture(results)
        return "".join(_line(cells) for cells in lines) + (f"\n{picture}\n" if picture else "")


def _line(cells: Sequence[str]) -> str:
    if set(cells) == {"---"}:
        return "|" + "|".join(cells) + "|\n"
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n"


def refreshed(page: str, text: str, results: Results, tables: Mapping[str, Table]) -> str:
    """A page with its tables as the results say.

    Raises: `ConfigError` for a marker that names no table of this page, or a table without its marker.
    """
    found = [match[2] for match in _BLOCK.finditer(text)]
    wanted = [name for name, table in tables.items() if page in table.pages]
    if sorted(found) != sorted(wanted):
        raise ConfigError(
            f"{page} has the markers {', '.join(found) or 'of no table'}, and its tables are "
            f"{', '.join(wanted)} (benchmarks/results/pages/)"
        )
    return _BLOCK.sub(lambda match: f"{match[1]}\n{tables[match[2]].text(results)}\n{match[4]}", text)


def stale_pages(root: Path, results: Results, tables: Mapping[str, Table]) -> dict[Path, str]:
    """Page -> what it should be, of those whose tables are not as the results say."""
    found = {}
    for page in dict.fromkeys(page for table in tables.values() for page in table.pages):
        text = (root / page).read_text(encoding="utf-8")
        new = refreshed(page, text, results, tables)
        if new != text:
            found[root / page] = new
    return found
