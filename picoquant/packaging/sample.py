"""A package's sample: one image, and the detections that the INT8 model finds in it on the host."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picoquant.backends.paddle.runtime import decoder_for, open_predictor
from picoquant.data.images import read_image
from picoquant.errors import DataError
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image, sample_image
from picoquant.postprocess import Detections
from picoquant.runtimes.detect import detect
from picoquant.storage.files import whole_file

LARGEST = 640  # longer side of the image in a package, pixels


@dataclass(frozen=True)
class SampleImage:
    """An image that goes into packages.

    Attributes:
        image: `[H, W, 3]` uint8 RGB.
        source: where it comes from, in words.
    """

    image: np.ndarray
    source: str

    @property
    def digest(self) -> str:
        """Hash of the pixels."""
        return hashlib.sha256(repr(self.image.shape).encode() + self.image.tobytes()).hexdigest()


def made_sample(config: InferConfig) -> SampleImage:
    """A picture made from a seed, where a run has no image to give; where it is padded, not of the input's shape."""
    height, width = config.input_size
    return SampleImage(
        sample_image(height, width * 3 // 4 if config.keep_ratio else width),
        "made from a seed; it shows nothing",
    )


def sample_of(image: np.ndarray, source: str) -> SampleImage:
    """A sample from an image `[H, W, 3]` uint8 RGB, made smaller where it is very large."""
    import cv2

    height, width = image.shape[:2]
    factor = LARGEST / max(height, width)
    if factor >= 1:
        return SampleImage(np.ascontiguousarray(image), source)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return SampleImage(small, f"{source}, made smaller from {width}x{height}")


def write_sample(sample: SampleImage, folder: Path) -> None:
    """Write `image.png` to look at and `image.ppm` for programs without image libraries; same pixels.

    PNG, not JPEG: two decoders of JPEG give different pixels.
    """
    import cv2

    folder.mkdir()
    done, data = cv2.imencode(".png", cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"the sample image ({sample.source}) cannot be written as PNG")
    with whole_file(folder / "image.png", "wb") as stream:
        stream.write(data.tobytes())
    height, width = sample.image.shape[:2]
    with whole_file(folder / "image.ppm", "wb") as stream:
        stream.write(f"P6\n{width} {height}\n255\n".encode() + sample.image.tobytes())


def read_ppm(path: Path) -> np.ndarray:
    """A binary PPM as `[H, W, 3]` uint8 RGB.

    Raises: `DataError` when it is none.
    """
    try:
        if not Path(path).read_bytes()[:2] == b"P6":
            raise DataError(f"{path} is no binary PPM image: package the model again")
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}") from error
    return read_image(path)


def expected_detections(folder: ModelFolder, image: np.ndarray) -> Detections:
    """What an exported model finds in an image, through Paddle's inference runtime, one thread."""
    predict = open_predictor(folder, threads=1)
    return detect(predict, decoder_for(predict, folder.config), feed_of_image(image, folder.config))
