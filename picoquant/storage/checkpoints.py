"""Checkpoints: files with the state from which a killed training or quantisation continues.

A file is one line, `picoquant checkpoint 1 <SHA-256 of the rest>`, then a zip of `.npy` arrays (no
pickles) and one JSON text. It is written to a temporary file, synced and renamed, so that a file of that
name is complete; the checksum detects damage by the disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import PicoquantError, UserError
from picoquant.storage.files import disk_errors, whole_file

LOG = logging.getLogger("picoquant")

_MAGIC = b"picoquant checkpoint 1 "
_NAME = re.compile(r"step_(\d{9})\.ckpt")
_PROGRESS = "progress.json"


class DamagedCheckpointError(PicoquantError):
    """A checkpoint whose bytes differ from those that were written, or cannot be read."""


@dataclass(frozen=True)
class Checkpoint:
    """State at the end of a step.

    Attributes:
        arrays: by group (`model`, `optimizer`, `ema`), then by name.
        progress: numbers and texts, JSON-able.
    """

    arrays: dict[str, dict[str, np.ndarray]]
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of a folder.

    Args:
        folder: folder of the files.
        keep: number of the newest checkpoints that are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self._keep = Path(folder), keep

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write the checkpoint of a step, replacing one of the same step, and remove all but `keep`.

        Checkpoints of later steps are removed too: they are of another run, or of one that continued from an
        earlier step.

        Returns: the file written.
        Raises: `UserError` when the disk is full or cannot be written.
        """
        path = self.folder / f"step_{step:09d}.ckpt"
        write_checkpoint(path, checkpoint)
        files = self._files()
        later = [file for file in files if file[0] > step]
        for _, old in (*later, *files[len(later) + self._keep :]):
            old.unlink(missing_ok=True)
        return path

    def require_room(self, size: int) -> None:
        """Check that the disk has room for `keep` checkpoints and the one being written.

        Args:
            size: estimated bytes of one checkpoint.

        Raises: `UserError` with the space that is required and the space that is free.
        """
        present = sum(path.stat().st_size for _, path in self._files())
        needed = max((self._keep + 1) * size - present, size)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        LOG.debug(
            "%s: checkpoints take up to %s, %s are free", self.folder, _mebibytes(needed), _mebibytes(free)
        )
        if free < needed:
            raise UserError(
                f"checkpoints in {self.folder} need {_mebibytes(needed)} and {_mebibytes(free)} are free; free some "
                "space or choose another --save-dir"
            )

    def newest(self) -> Checkpoint | None:
        """The newest undamaged checkpoint, None if there is none; damaged ones are logged and skipped."""
        for _, path in self._files():
            try:
                return read_checkpoint(path)
            except DamagedCheckpointError as error:
                LOG.warning("%s; using the one before it", error)
        return None

    def _files(self) -> list[tuple[int, Path]]:
        """(step, file) of all checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        found = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def array_bytes(checkpoint: Checkpoint) -> int:
    """Size of all arrays in bytes, which is nearly that of the file."""
    return sum(value.nbytes for arrays in checkpoint.arrays.values() for value in arrays.values())


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a file, atomically.

    Raises: `UserError` when the disk is full or cannot be written.
    """
    body = packed(checkpoint)
    with whole_file(path, "wb") as stream:
        stream.write(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n")
        stream.write(body)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint from a file.

    Raises: `DamagedCheckpointError` when the file is truncated, changed or cannot be read.
    """
    try:
        header, _, body = path.read_bytes().partition(b"\n")
    except OSError as error:  # a bad sector, for one
        raise DamagedCheckpointError(f"checkpoint {path} cannot be read ({error.strerror})") from error
    if header != _MAGIC + hashlib.sha256(body).hexdigest().encode():
        raise DamagedCheckpointError(f"checkpoint {path} is damaged")
    return unpacked(body)


def packed(checkpoint: Checkpoint) -> bytes:
    """Serialise a checkpoint."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(_PROGRESS, json.dumps(checkpoint.progress))
        for group, arrays in checkpoint.arrays.items():
            for name, value in arrays.items():
                with archive.open(f"{group}:{name}", "w") as stream:
                    np.lib.format.write_array(stream, value, allow_pickle=False)
    return content.getvalue()


def unpacked(body: bytes) -> Checkpoint:
    """Deserialise the result of `packed`."""
    arrays: dict[str, dict[str, np.ndarray]] = {}
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        progress = json.loads(archive.read(_PROGRESS))
        for entry in archive.namelist():
            group, colon, name = entry.partition(":")
            if colon:
                with archive.open(entry) as stream:
                    value = np.lib.format.read_array(stream, allow_pickle=False)
                arrays.setdefault(group, {})[name] = value
    return Checkpoint(arrays, progress)
