"""Scalars of a training for VisualDL, PaddlePaddle's viewer (https://github.com/PaddlePaddle/VisualDL)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from picoquant.errors import ConfigError
from picoquant.storage.csv_log import read_rows
from picoquant.storage.files import disk_errors

FILE = "vdlrecords.picoquant.log"  # VisualDL finds files by "vdlrecords" in their names
FOLDER = "vdl"  # in the folder of a training
_FLUSH_SECONDS = 10  # how far the viewer may lag behind


class ScalarLog:
    """A VisualDL log of the rows of CSV files; an interrupted and resumed training stays one curve.

    At the start the log is rewritten from the rows kept in the CSV files, because VisualDL cannot remove
    the steps that a kill undid. Column `loss` of group `train` becomes the tag `train/loss`.

    Args:
        folder: where the log is written; other files there are not touched.
        earlier: `(group, CSV file, step)`: rows up to the step are copied into the log.

    Raises: `ConfigError` when visualdl is not installed; `UserError` when the disk cannot be written.
    """

    def __init__(self, folder: Path, earlier: Sequence[tuple[str, Path, int]] = ()) -> None:
        require_visualdl()
        from visualdl import LogWriter

        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE).unlink(missing_ok=True)
            self._writer = LogWriter(str(folder), file_name=FILE, flush_secs=_FLUSH_SECONDS)
        for group, path, step in earlier:
            for row in read_rows(path, until=step) if step else ():
                self.write(group, row)

    def write(self, group: str, row: Mapping[str, float]) -> None:
        """Add the values of a row at its `step`; `step` and `epoch` themselves are not logged."""
        for name, value in row.items():
            if name not in ("step", "epoch"):
                self._writer.add_scalar(f"{group}/{name}", float(value), int(row["step"]))

    def __enter__(self) -> ScalarLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()


def require_visualdl() -> None:
    """Require that the package visualdl is installed.

    Raises: `ConfigError` when it is not.
    """
    if importlib.util.find_spec("visualdl") is None:
        raise ConfigError(
            "use_vdl: true needs the package visualdl: pip install 'picoquant[visualdl]', or set "
            "use_vdl=false (the same numbers are in train/metrics.csv)"
        )
