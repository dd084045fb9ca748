"""Metrics as CSV, one row a step, that a resumed run continues instead of starting again."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from picoquant.storage.files import disk_errors, write_text


class CsvLog:
    """Appends rows to a CSV file with a fixed header.

    Args:
        path: the file.
        fields: column names; the first is the step (an integer that grows).
        resume_at: rows whose step is greater than this are dropped first (they belong to work that a
            kill undid); 0 starts the file anew.
    """

    def __init__(self, path: Path, fields: Sequence[str], resume_at: int = 0) -> None:
        self._path, self._fields = Path(path), list(fields)
        kept = [",".join(self._fields)]
        if resume_at and self._path.is_file():
            with open(self._path, newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.reader(stream) if len(row) == len(self._fields)][1:]
            kept += [",".join(row) for row in rows if int(row[0]) <= resume_at]
        write_text(self._path, "\n".join(kept) + "\n")

    def write(self, **values: float) -> None:
        """Append one row; fields without a value stay empty."""
        unknown = set(values) - set(self._fields)
        if unknown:
            raise KeyError(f"{sorted(unknown)} are no columns of {self._path.name}")
        with disk_errors(self._path), open(self._path, "a", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow(
                [values.get(field, "") for field in self._fields]
            )


def read_rows(path: Path, until: float = math.inf) -> list[dict[str, float]]:
    """Rows of a file that a `CsvLog` wrote, up to step `until`; empty fields are left out.

    A row that a kill cut short is passed by. A file that is not there has no rows.
    """
    if not Path(path).is_file():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    found = [
        {name: float(value) for name, value in zip(header, row) if value}
        for row in rows
        if len(row) == len(header)
    ]
    return [row for row in found if row[header[0]] <= until]
