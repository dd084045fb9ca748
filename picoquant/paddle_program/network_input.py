"""Preprocessing of images to network inputs, as `infer_cfg.yml` describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from picoquant.errors import WeightsError
from picoquant.paddle_program.infer_config import InferConfig


def select_inputs(batch: Mapping[str, np.ndarray], input_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Select the arrays of a batch that a model has as inputs; a single input is always the image.

    Args:
        batch: `image`, and for a model with several inputs `scale_factor` and `im_shape`.
        input_names: names of the model's inputs.

    Raises: `WeightsError` naming an input that a batch does not hold.
    """
    if len(input_names) == 1:
        return {input_names[0]: batch["image"]}
    known = ("image", "scale_factor", "im_shape")
    unknown = [name for name in input_names if name not in known]
    if unknown:
        raise WeightsError(
            f"the model has the input {unknown[0]!r}, but only {', '.join(known)} can be given: "
            "export it from a PicoDet"
        )
    return {name: batch[name] for name in input_names}


def require_input_size(inputs: Sequence[tuple[str, Sequence[int]]], config: InferConfig, model: str) -> None:
    """Refuse a model that takes images of another size than they are prepared in.

    Args:
        inputs: the model's, names and shapes; -1 for a size that may vary.
        config: how images are prepared.
        model: what the message calls it.

    Raises: `WeightsError` naming both sizes.
    """
    for _, shape in inputs:
        if len(shape) == 4 and min(shape[2:]) > 0 and tuple(shape[2:]) != tuple(config.input_size):
            (height, width), prepared = shape[2:], config.input_size
            raise WeightsError(
                f"{model} takes images of {height}x{width} (height x width), but they are prepared in "
                f"{prepared[0]}x{prepared[1]}: correct target_size in its infer_cfg.yml, or where it has none set "
                f"Global.input_size=[{height},{width}]"
            )


def feed_of_image(image: np.ndarray, config: InferConfig) -> dict[str, np.ndarray]:
    """Preprocess an image of any size as in the evaluation.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        config: the model's preprocessing.

    Returns: `image [1, 3, H, W]`, `scale_factor [1, 2]` (y, x), `im_shape [1, 2]`, float32, and where there is
        padding above or left of the image `pad_offset [1, 2]` (rows, columns).
    """
    from picoquant.data.transforms.fit import FillInput, FitResize
    from picoquant.data.transforms.normalize import NormalizeImage
    from picoquant.data.transforms.resize import Resize
    from picoquant.data.transforms.sample import Sample

    sample = Sample(image, im_shape=(float(image.shape[0]), float(image.shape[1])))
    rng = np.random.default_rng(0)  # required by the interface; none of the transforms draws from it
    height, width = config.input_size
    size, interp = (height, width), config.interp
    normalise = NormalizeImage(config.mean, config.std, config.is_scale)
    resize = (
        FitResize(size, interp, config.padding) if config.keep_ratio else Resize(list(size), False, interp)
    )
    sample = normalise(resize(sample, rng), rng)
    sample.image = sample.image.transpose(2, 0, 1)
    fill = (0.0, 0.0, 0.0) if config.fill is None else normalise.of_colour(config.fill)
    sample = FillInput(size, fill)(sample, rng)
    feed = {
        "image": np.ascontiguousarray(sample.image)[None],
        "scale_factor": np.array([sample.scale_factor], np.float32),
        "im_shape": np.array([sample.im_shape], np.float32),
    }
    if any(sample.pad_offset):
        feed["pad_offset"] = np.array([sample.pad_offset], np.float32)
    return feed


_SEED = 0


def sample_image(height: int, width: int) -> np.ndarray:
    """A generated image, always the same: smooth shading and rectangles, `[height, width, 3]` uint8 RGB."""
    random = np.random.default_rng(_SEED)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        a, b, c = random.uniform(1.0, 6.0, 3)
        image[..., channel] = 128 + 60 * np.sin(a * rows / height + b) * np.cos(c * columns / width)
    for _ in range(24):
        top, left = random.integers(0, height), random.integers(0, width)
        tall, wide = random.integers(4, max(5, height // 3)), random.integers(4, max(5, width // 3))
        image[top : top + tall, left : left + wide] = random.uniform(0, 255, 3)
    return np.clip(image, 0, 255).astype(np.uint8)
