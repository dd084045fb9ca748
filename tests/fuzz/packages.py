"""Packages made bad: as archives, by their manifest, by files whose hashes were put right again."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.edits import BYTE_EDITS, EDITS, as_json, edited, edited_bytes

_TOP = "generic_onnx"
_TEXTS = ("paddle/infer_cfg.yml", "preprocess.yml", "sample/expected.json", "sample/image.ppm", "labels.txt")
_MODELS = ("paddle/model.pdmodel", "paddle/model.pdiparams", "model_int8.onnx")

# Members that an archive of a package never holds: kind, name, what a link points to, the size it claims.
_KINDS = (
    tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
    tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
    tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, b"?",
)  # fmt: skip
_NAMES = st.one_of(
    st.sampled_from(
        [f"{_TOP}/x", f"{_TOP}/labels.txt", f"{_TOP}/manifest.json", f"{_TOP}/paddle/../../x", "../x", "/x", "x",
         "other/x", f"{_TOP}/a\\b", f"{_TOP}/paddle", f"{_TOP}/labels.txt/x", f"{_TOP}/" + "d/" * 60 + "x", "", "."]
    ),
    st.text(max_size=60),
)  # fmt: skip
_SIZES = st.one_of(
    st.sampled_from([0, 3, 511, 512, 513, -1, -512, 1 << 20, 1 << 30, 1 << 33, 1 << 62]), st.integers(0, 2000)
)
_CONTENTS = st.one_of(
    st.binary(max_size=700),
    st.sampled_from(
        [b"13 size=-512\n", b"20 GNU.sparse.major=1\n", b"999999999 a=b\n", b"22 path=\xff\xfe/x\n" * 30]
    ),
)
_MEMBERS = st.lists(
    st.tuples(st.sampled_from(_KINDS), _NAMES, _NAMES, _SIZES, _CONTENTS), min_size=1, max_size=3
)
# A huge part: of the archive itself, of a header, of many members.
_BOMBS = st.sampled_from(["long file", "long header", "long name", "many members", "long members"])


@functools.lru_cache(None)
def package_files() -> dict[str, bytes]:
    """A whole package of a small network, by name."""
    from picoquant.packaging.package import Models, package
    from picoquant.targets.profiles import load_target
    from tests.networks.small_int8 import write_small

    with tempfile.TemporaryDirectory(prefix="picoquant-fuzz-") as scratch:
        (Path(scratch) / "model").mkdir()
        folder = package(
            Models(write_small(Path(scratch) / "model")), load_target(_TOP), Path(scratch) / "out"
        ).folder
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


def _tar(files: dict[str, bytes], members: list[tuple] = (), at_end: bool = True) -> bytes:
    stream = io.BytesIO()
    good = [(tarfile.REGTYPE, f"{_TOP}/{name}", "", len(data), data) for name, data in files.items()]
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        for kind, name, link, size, content in [*good, *members] if at_end else [*members, *good]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, size
            try:
                header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
            except (ValueError, UnicodeError):
                continue
            archive.fileobj.write(header)
            archive.fileobj.write(content + bytes(-len(content) % 512))
    return stream.getvalue()


def _listed(files: dict[str, bytes]) -> dict[str, bytes]:
    """With a manifest that has the hashes of these files."""
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
        if name != "manifest.json"
    }
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def _with(name: str, content: bytes) -> bytes:
    return _tar(_listed({**package_files(), name: content}))


def _document(name: str, edits: list) -> bytes:
    """A YAML or JSON file with entries edited."""
    from picoquant.yaml_files.load import parse_yaml
    from tests.fuzz.kinds import as_yaml

    text = package_files()[name].decode()
    if name.endswith(".json"):
        return as_json(edited(json.loads(text), edits))
    return as_yaml(edited(parse_yaml(text, name), edits))


def _bomb(kind: str) -> bytes:
    """A small file that becomes large."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:

        def zeros(count: int) -> None:
            block = bytes(1 << 24)
            for _ in range(count >> 24):
                stream.write(block)

        size = 3 << 30
        if kind == "long file":
            zeros(size)
        elif kind in ("long header", "long name"):
            info = tarfile.TarInfo("x")
            info.type, info.size = (
                tarfile.XHDTYPE if kind == "long header" else tarfile.GNUTYPE_LONGNAME,
                size,
            )
            stream.write(info.tobuf(tarfile.GNU_FORMAT))
            zeros(size)
        elif kind == "many members":
            for start in range(0, 2_000_000, 1000):
                names = (tarfile.TarInfo(f"{_TOP}/{number}") for number in range(start, start + 1000))
                stream.write(b"".join(info.tobuf(tarfile.USTAR_FORMAT) for info in names))
        else:
            for number in range(4):
                info = tarfile.TarInfo(f"{_TOP}/{number}")
                info.size = 400 << 20
                stream.write(info.tobuf(tarfile.GNU_FORMAT))
                zeros(info.size)
    return packed.getvalue()


_bomb = functools.lru_cache(None)(_bomb)


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def packages() -> st.SearchStrategy:
    """Archives."""
    whole = package_files()
    texts = st.sampled_from([name for name in _TEXTS if name in whole])
    models = st.sampled_from([name for name in _MODELS if name in whole])
    documents = st.sampled_from([name for name in _TEXTS if name in whole and name.endswith(("yml", "json"))])
    plain = _tar(whole)

    def changed(name: str, edits: list) -> bytes:
        return _packed(_with(name, edited_bytes(whole[name], edits)))

    return st.one_of(
        st.builds(lambda e: edited_bytes(_packed(plain), e), BYTE_EDITS),
        st.builds(lambda e: _packed(edited_bytes(plain, e)), BYTE_EDITS),
        st.builds(lambda m, end: _packed(_tar(whole, m, end)), _MEMBERS, st.booleans()),
        st.builds(
            lambda e: _packed(_tar({**whole, "manifest.json": as_json(edited(json.loads(whole["manifest.json"]), e))})),
            EDITS,
        ),
        st.builds(lambda n, e: _packed(_with(n, _document(n, e))), documents, EDITS),
        st.builds(changed, texts, BYTE_EDITS),
        st.builds(changed, models, BYTE_EDITS),
        st.builds(changed, models, BYTE_EDITS),
        st.builds(
            lambda n: _packed(_tar(_listed({k: v for k, v in whole.items() if k != n}))),
            st.sampled_from(sorted(whole)).filter(lambda n: n != "manifest.json"),
        ),
    )  # fmt: skip


def bombs() -> st.SearchStrategy:
    """Archives that are small and become large."""
    return _BOMBS.map(_bomb)


def run_package(folder: Path, content: bytes) -> None:
    """`picoquant verify`, and the package as a model in two runtimes, as `predict` and `eval` use it."""
    from picoquant.backends.base import Machine
    from picoquant.backends.table import BACKENDS
    from picoquant.errors import UserError
    from picoquant.packaging.open_model import open_model
    from picoquant.packaging.verify import verify
    from picoquant.paddle_program.network_input import feed_of_image
    from picoquant.runtimes.backends import running
    from picoquant.runtimes.detect import detect

    without_lite = {name: place for name, place in BACKENDS.items() if name != "lite"}
    path = folder / f"{_TOP}.tar.gz"
    path.write_bytes(content)
    tempfile.tempdir = str(folder)  # what is unpacked goes with the case
    refused: UserError | None = None

    def tried(what: Any) -> None:
        nonlocal refused
        try:
            what()
        except UserError as error:
            refused = error

    def run(backend: str) -> None:
        with open_model(path) as model, running(model, backend, Machine(threads=1)) as ready:
            image = np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)
            detect(ready.predict, ready.decoder, feed_of_image(image, model.config))

    tried(lambda: json.dumps(verify(path, known=without_lite).as_dict()))
    tried(lambda: run("paddle"))
    tried(lambda: run("onnx"))
    if refused:
        raise refused
