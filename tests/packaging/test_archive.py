"""Archives: the same bytes for the same files, and those that must not be unpacked."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import pytest

from picoquant.errors import UserError
from picoquant.packaging.archive import extract, write_archive


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "board"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "run.sh").write_text("run")
    (folder / "b" / "run.sh").chmod(0o700)
    (folder / "a.txt").write_text("é" * 100)
    return folder


def test_bytes_do_not_depend_on_when_where_and_whose(folder, tmp_path):
    write_archive(folder, tmp_path / "one.tar.gz")
    os.utime(folder / "a.txt", (1, 1))
    (folder / "a.txt").chmod(0o600)
    write_archive(folder, tmp_path / "two.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        found = [(i.name, i.mode, i.mtime, i.uid, i.uname) for i in archive.getmembers()]
    assert found == [("board/a.txt", 0o644, 0, 0, ""), ("board/b/run.sh", 0o755, 0, 0, "")]


def test_what_was_packed_comes_back(folder, tmp_path):
    write_archive(folder, tmp_path / "one.tar.gz")
    out = extract(tmp_path / "one.tar.gz", tmp_path / "out")
    assert out == tmp_path / "out" / "board"
    assert (out / "a.txt").read_text() == "é" * 100
    assert os.access(out / "b/run.sh", os.X_OK) and not os.access(out / "a.txt", os.X_OK)


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = 3 if kind == tarfile.REGTYPE else 0
    return info


ESCAPING = {
    "parent": ([member("a/../../evil")], "'a/../../evil' would leave its folder"),
    "absolute": ([member("/evil")], "'/evil' would leave its folder"),
    "link": ([member("a/x", tarfile.SYMTYPE, "/etc")], "'a/x' is a link or a device, or sparse"),
    "hard link": ([member("a/x", tarfile.LNKTYPE, "../y")], "'a/x' is a link or a device, or sparse"),
    "device": ([member("a/x", tarfile.CHRTYPE)], "'a/x' is a link or a device, or sparse"),
    "pipe": ([member("a/x", tarfile.FIFOTYPE)], "'a/x' is a link or a device, or sparse"),
    "twice": ([member("a/x"), member("a/./x")], "'a/./x' is in it twice"),
    "two folders": ([member("a/x"), member("b/x")], "it holds 2 folders"),
    "no folder": ([member("x")], "'x' lies outside"),
}


@pytest.mark.parametrize("name", ESCAPING)
def test_archives_that_must_not_be_unpacked(name, tmp_path):
    members, said = ESCAPING[name]
    path = tmp_path / "bad.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for info in [member("a/good"), *members] if name not in ("no folder", "two folders") else members:
            archive.addfile(info, io.BytesIO(b"bad"))
    with pytest.raises(UserError) as caught:
        extract(path, tmp_path / "out")
    assert said in str(caught.value) and str(path) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["bad.tar.gz"]


def test_archives_too_large_damaged_or_none(folder, tmp_path):
    huge = member("a/x")
    huge.size = 1 << 40
    (tmp_path / "huge.tar.gz").write_bytes(b"")
    with tarfile.open(tmp_path / "huge.tar.gz", "w:gz") as archive:
        archive.fileobj.write(huge.tobuf())
    with pytest.raises(UserError, match="holds over 1024 MiB"):
        extract(tmp_path / "huge.tar.gz", tmp_path / "out")
    write_archive(folder, tmp_path / "one.tar.gz")
    data = (tmp_path / "one.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.tar.gz").write_text("text")
    for name in ("cut", "text", "none"):
        with pytest.raises(UserError, match=rf"{name}\.tar\.gz is no readable .tar.gz archive"):
            extract(tmp_path / f"{name}.tar.gz", tmp_path / "out")


def header(kind, size):
    info = tarfile.TarInfo("a/x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def test_headers_without_end_and_files_without_number(tmp_path):
    hostile = {
        "long": (header(tarfile.XHDTYPE, 1 << 33), "a header of 8589934592 bytes"),
        "backwards": (header(tarfile.GNUTYPE_LONGNAME, -512), "a header of -"),
        "nested": (header(tarfile.XHDTYPE, 0) * 3000, "is no readable .tar.gz archive"),
        "negative": (header(tarfile.REGTYPE, -1024), "is refused"),
        "many": (b"".join(member(f"a/{n}", tarfile.DIRTYPE).tobuf() for n in range(10_001)), "over 10000 files"),
    }  # fmt: skip
    for name, (content, said) in hostile.items():
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(gzip.compress(content + bytes(1024)))
        with pytest.raises(UserError, match=f"{name}.tar.gz .*{said}"):
            extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
