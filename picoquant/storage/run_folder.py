"""The run folder: one folder per stage, run.json, a log, the resolved configuration.

A stage works in `.work/<stage>/out` and may store state to continue from in `.work/<stage>/keep`. When it
is done, `out` is renamed to `<stage>/`, so a stage's folder is either complete or missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from picoquant.errors import PicoquantError, UserError
from picoquant.storage.files import (
    disk_errors,
    recover_folder,
    replace_folder,
    sha256,
    write_json,
    write_text,
)

MANIFEST = "run.json"
CONFIG = "config.yml"
LOG_FILE = "run.log"


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON-able value, keys sorted: equal values have equal fingerprints."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def stage_record(root: Path, stage: str) -> dict[str, Any]:
    """The record of a stage in the `run.json` of a folder; empty if there is none.

    Raises: `UserError` when the file is damaged.
    """
    return dict(_read_manifest(Path(root) / MANIFEST)["stages"].get(stage, {}))


def _read_manifest(path: Path) -> dict[str, Any]:
    """The content of a `run.json`; without any stage if the file is missing."""
    if not path.is_file():
        return {"stages": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(record, dict) for record in manifest["stages"].values()):
            return manifest
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path} is damaged; remove it (stages will run again) or choose another --save-dir")


class RunFolder:
    """One run on disk.

    Args:
        root: the folder passed as `--save-dir`; created if it does not exist.

    Raises: `UserError` when it cannot be written or `run.json` is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).expanduser().resolve()
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable.{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        self._manifest = _read_manifest(self.root / MANIFEST)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against a second run; the system releases the lock when the process ends.

        Raises: `UserError` naming the process that holds it.
        """
        path = self.root / ".lock"
        with disk_errors(path):
            stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115  closed below
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise UserError(
                    f"{self.root} is in use by {holder}; wait for it or choose another --save-dir"
                ) from None
            stream.truncate(0)
            stream.write(f"process {os.getpid()}")
            stream.flush()
            for stage in list(self._manifest["stages"]):
                recover_folder(self.folder(stage))
            yield

    def folder(self, stage: str) -> Path:
        """The folder of a finished stage."""
        return self.root / stage

    def record(self, stage: str) -> dict[str, Any]:
        """The record of a stage in run.json; empty if it never ran."""
        return dict(self._manifest["stages"].get(stage, {}))

    def about(self) -> dict[str, Any]:
        """run.json's values beside `stages`: versions, command, device …; empty before the first stage."""
        return {name: value for name, value in self._manifest.items() if name != "stages"}

    def describe(self, **values: Any) -> None:
        """Write values (versions, command, device …) beside `stages` into run.json."""
        self._manifest.update(values)
        self._save()

    def set_record(self, stage: str, record: dict[str, Any]) -> None:
        """Write the record of a stage into run.json."""
        self._manifest["stages"][stage] = record
        self._save()

    def _save(self) -> None:
        write_json(self.root / MANIFEST, self._manifest)

    def write_config(self, text: str) -> None:
        """Write the resolved configuration, which `--config` accepts again."""
        write_text(self.root / CONFIG, text)

    def is_current(self, stage: str, inputs_fingerprint: str) -> bool:
        """Whether a stage is done with these inputs and all its files exist with their recorded size."""
        record = self.record(stage)
        if record.get("status") != "done" or record.get("fingerprint") != inputs_fingerprint:
            return False
        return all(
            (self.folder(stage) / name).is_file()
            and (self.folder(stage) / name).stat().st_size == entry["bytes"]
            for name, entry in record.get("files", {}).items()
        )

    def work(self, stage: str, inputs_fingerprint: str, fresh: bool) -> tuple[Path, Path]:
        """The folders `(out, keep)` a stage works in.

        `out` is empty. `keep` has its content of an earlier, interrupted run with the same inputs, unless
        `fresh`.
        """
        base = self.root / ".work" / stage
        mark = base / "inputs"
        with disk_errors(base):
            same = mark.is_file() and mark.read_text(encoding="utf-8") == inputs_fingerprint
            if base.exists() and (fresh or not same):
                shutil.rmtree(base)
            out, keep = base / "out", base / "keep"
            if out.exists():
                shutil.rmtree(out)
            out.mkdir(parents=True)
            keep.mkdir(exist_ok=True)
        write_text(mark, inputs_fingerprint)
        return out, keep

    def finish(self, stage: str, out: Path, record: dict[str, Any]) -> dict[str, Any]:
        """Rename `out` to the stage's folder and record the stage as done, with the SHA-256 of every file.

        Returns: the record.
        Raises: `PicoquantError` when the stage wrote no file.
        """
        files = {
            path.relative_to(out).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
        if not files:
            raise PicoquantError(f"stage {stage} wrote nothing")
        record = {**record, "status": "done", "files": files}
        replace_folder(out, self.folder(stage))
        self.set_record(stage, record)
        shutil.rmtree(self.root / ".work" / stage, ignore_errors=True)
        return record
