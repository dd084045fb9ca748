"""A package as one `.tar.gz`: the same bytes for the same files, and no trust in those that come back."""

from __future__ import annotations

import errno
import gzip
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from picoquant.errors import UserError, reason_of
from picoquant.storage.files import whole_file

SUFFIX = ".tar.gz"
# What a package never reaches: bytes of its files together, files, bytes of a header.
_MOST_BYTES = 1 << 30
_MOST_FILES = 10_000
_LONGEST_READ = 1 << 20
_LEVEL = 6  # of a package of 19 MB, 9 takes six times as long and saves 1.3 %
_PART = 1 << 20  # bytes compressed at a time, in which other threads go on


def write_archive(folder: Path, path: Path, name: str | None = None) -> None:
    """Pack a folder; whole or not at all.

    Files are sorted, belong to user 0, are of 1970, and are readable by all; what was executable is so for
    all. Only a file's content, name and whether it is executable decide the bytes.

    Args:
        folder: what to pack.
        path: the `.tar.gz`.
        name: of the only folder in the archive; by default the folder's own.
    """
    top = name or folder.name
    with whole_file(path, "wb") as stream, _archive(stream) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = tarfile.TarInfo(f"{top}/{file.relative_to(folder).as_posix()}")
            status = file.stat()
            info.size = status.st_size
            info.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            with open(file, "rb") as content:
                archive.addfile(info, content)


@contextmanager
def _archive(stream: Any) -> Iterator[tarfile.TarFile]:
    packing = gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=_LEVEL, mtime=0)
    with (
        packing,
        tarfile.open(fileobj=packing, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_PART) as archive,
    ):
        yield archive


def extract(path: Path, folder: Path) -> Path:
    """Unpack a package's archive.

    Args:
        path: the `.tar.gz`.
        folder: an empty folder.

    Returns: the only folder of the archive.

    Raises: `UserError` when it is no archive, when a member would be written outside the folder, is a
        link or a device, or comes twice, and when it is larger than a package can be. Nothing is written
        then.
    """
    try:
        with (
            gzip.open(path) as content,
            tarfile.open(fileobj=_Bounded(content), mode="r:") as archive,
        ):
            top = _checked(archive, path)
            for member in archive.getmembers():
                if member.isfile():
                    _write(archive, member, folder)
    except (
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{path} cannot be unpacked in {folder}: the disk is full; free some space, or set TMPDIR to a "
                "folder on another disk"
            ) from error
        raise UserError(f"{path} is no readable .tar.gz archive{reason_of(error)}") from error
    return folder / top


class _Bounded:
    """What `tarfile` reads from: it takes the size of a header from the header, and reads all of it at once."""

    def __init__(self, content: gzip.GzipFile) -> None:
        self._content = content
        self.seek, self.tell = content.seek, content.tell

    def read(self, size: int) -> bytes:
        """As a file's.

        Raises: `tarfile.ReadError` when more is wanted than any header of a package has.
        """
        if not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._content.read(size)


def _checked(members: Iterable[tarfile.TarInfo], path: Path) -> str:
    """The name of the one folder that all members lie in; stops at the first that is not welcome."""
    seen, tops, size = set(), set(), 0
    for member in members:
        place = PurePosixPath(member.name)
        if place.is_absolute() or ".." in place.parts or "\\" in member.name or not place.parts:
            raise UserError(f"{path} is refused: {member.name!r} would leave its folder")
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise UserError(f"{path} is refused: {member.name!r} is a link or a device, or sparse")
        if place in seen:
            raise UserError(f"{path} is refused: {member.name!r} is in it twice")
        if member.isfile() and len(place.parts) < 2:
            raise UserError(f"{path} is no package: {member.name!r} lies outside the package's folder")
        if len(seen) == _MOST_FILES:
            raise UserError(f"{path} is refused: it holds over {_MOST_FILES} files, no package has so many")
        seen.add(place)
        tops.add(place.parts[0])
        size += member.size
        if member.size < 0 or size > _MOST_BYTES:
            raise UserError(
                f"{path} is refused: it holds over {_MOST_BYTES >> 20} MiB, no package is so large"
            )
    if len(tops) != 1:
        raise UserError(f"{path} is no package: it holds {len(tops)} folders, one is expected")
    return tops.pop()


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    out = folder / member.name
    out.parent.mkdir(parents=True, exist_ok=True)
    with archive.extractfile(member) as source, open(out, "xb") as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)
    out.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
