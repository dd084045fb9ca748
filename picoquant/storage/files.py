"""Atomic writing of files and folders: write to a temporary name, sync, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from picoquant.errors import UserError

_CHUNK = 8 << 20


def sha256(path: Path, watch: Callable[[bytearray, int], None] = lambda part, count: None) -> str:
    """Hex SHA-256 of a file's bytes, read once in pieces of up to 8 MiB.

    `watch` sees each piece, too: the memory that it is in, and how many bytes of that it has.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        part = bytearray(max(1, min(_CHUNK, os.fstat(stream.fileno()).st_size)))
        while count := stream.readinto(part):
            digest.update(memoryview(part)[:count])
            watch(part, count)
    return digest.hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk (full, read-only, no permission) into a one-line `UserError`.

    Other exceptions are passed on.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again",
            errno.EDQUOT: "the disk quota is used up; free some space and run again",
            errno.EROFS: "the file system is read-only; choose another --save-dir",
            errno.EACCES: "permission denied; choose another --save-dir",
            errno.EPERM: "permission denied; choose another --save-dir",
            errno.ENOTDIR: "a part of the path is a file, not a folder; choose another --save-dir",
        }
        if error.errno not in reasons:
            raise
        raise UserError(f"cannot write {error.filename or path}: {reasons[error.errno]}") from error


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[Any]:
    """Open a temporary file beside `path` for writing; at the end of the block sync and rename it to `path`.

    If the block raises, the temporary file is removed and `path` keeps its old content.

    Raises: `UserError` when the disk is full or cannot be written.
    """
    path = Path(path)
    encoding = None if "b" in mode else "utf-8"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, mode, encoding=encoding) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the file system supports it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    with whole_file(path) as stream:
        json.dump(value, stream, indent=2, sort_keys=True)
        stream.write("\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with whole_file(path) as stream:
        stream.write(text)


def replace_folder(new: Path, final: Path) -> None:
    """Rename folder `new` to `final`; an old `final` is renamed first and removed afterwards.

    A kill between the two renames leaves `.<name>.old`, which `recover_folder` puts back.
    """
    old = final.with_name(f".{final.name}.old")
    with disk_errors(final):
        if old.exists():
            shutil.rmtree(old)
        if final.exists():
            os.rename(final, old)
        os.rename(new, final)
        if old.exists():
            shutil.rmtree(old)


def recover_folder(final: Path) -> None:
    """Undo a `replace_folder` that was killed half-way."""
    old = final.with_name(f".{final.name}.old")
    if not old.exists():
        return
    if final.exists():
        shutil.rmtree(old)
    else:
        os.rename(old, final)
