"""The ONNX files of a package: raw outputs and variants with post-processing, for one image a call or more."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.onnx.files import write_onnx
from picoquant.errors import UserError
from picoquant.packaging.forms import ONNX, ONNX_VARIANTS, PLAIN_ONNX
from picoquant.packaging.sample import SampleImage
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.utils.batching import DYNAMIC, Batch

LOG = logging.getLogger("picoquant")

_TRIED_TOGETHER = 8  # different images in a trial of a larger batch, which then repeats them
_OF_ONE_IMAGE = "detections"  # NMS is for one image


def write_onnx_files(
    model: Any,
    shipped: ModelFolder,
    kind: str,
    folder: Path,
    batch: Batch,
    sample: SampleImage,
    plain: Any = None,
) -> dict[str, dict[str, Any]]:
    """Write the files; those of more than one image are compared with their form of one image first.

    Args:
        model: the INT8 network as `onnx.ModelProto`, for one image.
        shipped: the same as a Paddle model, for its `infer_cfg.yml`.
        kind: of its outputs, as `Decoder.kind`; only `raw` has variants.
        folder: of the package.
        batch: images a call of all files without NMS.
        sample: the image that they are tried on, moved sideways to make several.
        plain: the network as other compilers take it, see `plain.make_plain_onnx`; None: without.

    Returns: for each file `images` a call, and `max_abs_difference` of its outputs from those of each image alone.

    Raises: `UserError` where the model has NMS inside, `ToolError` where ONNX cannot hold the batch or ONNX Runtime
        computes something else.
    """
    from picoquant.backends.onnx.postprocessing import with_outputs

    if batch != 1 and kind == _OF_ONE_IMAGE:
        raise UserError(
            f"Package.batch={batch}: the model has NMS inside, which is for one image: export it without "
            "(export.post_process=false), or set Package.batch=1"
        )
    made: dict[str, dict[str, Any]] = {}
    forms = [(kind, ONNX, model)]
    if plain is not None:
        forms.append((kind, PLAIN_ONNX, plain))
    for variant, name in (ONNX_VARIANTS if kind == "raw" else {}).items():
        forms.append((variant, name, with_outputs(model, variant, shipped.config)))
    for variant, name, single in forms:
        if batch == 1 or variant == _OF_ONE_IMAGE:
            write_onnx(single, folder / name)
            made[name] = {"images": 1}
        else:
            difference = _write_batched(single, folder / name, batch, _images(sample, shipped, batch))
            made[name] = {"images": batch, "max_abs_difference": difference}
    return made


def _write_batched(single: Any, path: Path, batch: Batch, images: np.ndarray) -> float:
    from picoquant.backends.onnx.batch import require_same, with_batch

    write_onnx(with_batch(single, batch), path)
    with tempfile.TemporaryDirectory(prefix="picoquant-batch-") as scratch:
        alone = Path(scratch) / f"one_image_{path.name}"
        write_onnx(single, alone)
        return require_same(alone, path, images)


def _images(sample: SampleImage, shipped: ModelFolder, batch: Batch) -> np.ndarray:
    """Network inputs `[N, 3, H, W]` of `batch` images, 3 for any number, all different up to `_TRIED_TOGETHER`."""
    count = 3 if batch == DYNAMIC else int(batch)
    width = sample.image.shape[1]
    shifts = [place * width // _TRIED_TOGETHER for place in range(min(count, _TRIED_TOGETHER))]
    feeds = [feed_of_image(np.roll(sample.image, shift, axis=1), shipped.config)["image"] for shift in shifts]
    return np.concatenate([feeds[place % len(feeds)] for place in range(count)])
