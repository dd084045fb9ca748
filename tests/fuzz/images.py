"""Images of every sort, whole and damaged, through reading, training batch and evaluation batch."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.edits import BYTE_EDITS, edited_bytes

_SORTS = [
    "jpeg", "png", "bmp", "webp", "tiff", "gif", "1x1", "1 high", "1 wide", "20,000 wide", "cmyk", "16 bits", "grey",
    "palette", "transparent", "two bits", "exif 3", "exif 6", "exif 8", "exif 99", "animated gif", "animated png",
    "animated webp", "float tiff", "progressive", "nothing", "text", "claims 60,000 x 60,000",
]  # fmt: skip


@functools.lru_cache(None)
def image_bytes(sort: str) -> bytes:
    """A file of that sort."""
    random = np.random.RandomState(0)
    pixels = Image.fromarray(random.randint(0, 256, (24, 36, 3), np.uint8))
    sizes = {"1x1": (1, 1), "1 high": (50, 1), "1 wide": (1, 50), "20,000 wide": (20_000, 8)}
    stream = io.BytesIO()
    if sort == "nothing":
        return b""
    if sort == "text":
        return b"this is no image\n" * 20
    if sort == "claims 60,000 x 60,000":
        data = bytearray(image_bytes("png"))
        data[16:24] = (60_000).to_bytes(4, "big") * 2
        import zlib

        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        return bytes(data)
    if sort in sizes:
        pixels.resize(sizes[sort]).save(stream, "PNG")
    elif sort.startswith("exif"):
        exif = Image.Exif()
        exif[0x0112] = int(sort.split()[1])
        pixels.save(stream, "JPEG", exif=exif)
    elif sort.startswith("animated"):
        form = sort.split()[1].upper()
        pixels.save(stream, form, save_all=True, append_images=[pixels.rotate(90)] * 3)
    elif sort == "cmyk":
        pixels.convert("CMYK").save(stream, "JPEG")
    elif sort == "16 bits":
        Image.fromarray(random.randint(0, 65536, (24, 36)).astype(np.uint16)).save(stream, "PNG")
    elif sort == "float tiff":
        Image.fromarray(random.rand(24, 36).astype(np.float32)).save(stream, "TIFF")
    elif sort in ("grey", "palette", "transparent", "two bits"):
        mode = {"grey": "L", "palette": "P", "transparent": "RGBA", "two bits": "1"}[sort]
        pixels.convert(mode).save(stream, "PNG")
    elif sort == "progressive":
        pixels.save(stream, "JPEG", progressive=True)
    else:
        pixels.save(stream, sort.upper())
    return stream.getvalue()


IMAGES = st.tuples(
    st.one_of(
        st.sampled_from(_SORTS).map(image_bytes),
        st.builds(edited_bytes, st.sampled_from(_SORTS).map(image_bytes), BYTE_EDITS),
    ),
    st.sampled_from([".jpg", ".png", ".JPG", ".bmp", ".txt", ""]),
)


@functools.lru_cache(None)
def _readers() -> tuple:
    from picoquant.stages.plan import load_plan

    plan = load_plan("quickstart", ["Global.input_size=[64,64]", "TrainReader.batch_size=1"])
    return plan.train_reader, plan.eval_reader


def run_image(folder: Path, case: tuple[bytes, str]) -> None:
    """Read it, train on it, evaluate on it."""
    from picoquant.data.dataset import Dataset, Record
    from picoquant.data.images import read_image
    from picoquant.data.readers.reader import EvalReader, TrainReader

    path = folder / f"a{case[1]}"
    path.write_bytes(case[0])
    image = read_image(path)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    record = Record(
        1, str(path), 36, 24, np.float32([[1, 2, 30, 20]]), np.zeros(1, np.int32), np.zeros(1, bool)
    )
    dataset = Dataset((record,), ("a",), (1,))
    train, evaluation = _readers()
    for batch in (
        next(TrainReader(dataset, train, 0, 0).epoch(0)),
        next(iter(EvalReader(dataset, evaluation, 0))),
    ):
        assert np.isfinite(batch["image"]).all()
