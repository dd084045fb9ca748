"""Metrics as CSV, one row per step; a resumed run appends to the file of the interrupted one."""

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
        resume_at: rows with a later step than this are removed first, because a kill undid that work; 0:
            all rows are removed.

    Raises: `UserError` when the disk cannot be written.
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
        """Append one row; fields without a value are left empty.

        Raises: `KeyError` for a name that is not a column; `UserError` when the disk cannot be written.
        """
        unknown = set(values) - set(self._fields)
        if unknown:
            raise KeyError(f"{sorted(unknown)} are no columns of {self._path.name}")
        with disk_errors(self._path), open(self._path, "a", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow(
                [values.get(field, "") for field in self._fields]
            )


def read_rows(path: Path, until: float = math.inf) -> list[dict[str, float]]:
    """Rows of a file that a `CsvLog` wrote, up to step `until`; empty fields are left out.

    A row that a kill truncated is skipped. A missing file has no rows.
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
