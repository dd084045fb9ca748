"""Export the network as a Paddle inference model, in one of three forms.

`N` images, `C` classes, `L` anchor points over all levels, `R` = reg_max, `M` detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from picoquant.detector.modes import evaluation_mode
from picoquant.errors import ConfigError
from picoquant.export.nms_operator import multiclass_nms3
from picoquant.export.traced_program import traced_program
from picoquant.paddle_program.infer_config import InferConfig, write_infer_config
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.paddle_program.params import write_params
from picoquant.postprocess.settings import NmsSettings
from picoquant.storage.files import disk_errors, whole_file


class RawForm(nn.Layer):
    """The network without post-processing, for an NPU; its outputs are the last convolutions' logits.

    Sigmoid, product and square root of the scores are computed on the host (`postprocess.decode`): the NPU
    has no square root, and 8 bits cannot represent the low values of a product of two scores.
    """

    def __init__(self, detector: nn.Layer) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`[N, 3, H, W]` -> class logits `[N, H*W, C]` of all levels, then alignment logits `[N, H*W, 1]`
        of all levels if the head has an alignment map, then distance logits `[N, H*W, 4*(R+1)]` of all."""
        return tuple(self.detector.logits(image))


class BoxesForm(nn.Layer):
    """The network with box decoding, without NMS."""

    def __init__(self, detector: nn.Layer) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 3, H, W]` -> boxes `[N, L, 4]` input pixels, scores `[N, C, L]`."""
        scores, boxes = self.detector(image)
        return boxes, scores


class DetectionsForm(nn.Layer):
    """The network with box decoding, scaling to image pixels, and NMS."""

    def __init__(self, detector: nn.Layer, nms: NmsSettings) -> None:
        super().__init__()
        self.detector = detector
        self._nms = nms

    def forward(self, image: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor]:
        """Detections in image pixels.

        Args:
            image: `[N, 3, H, W]`.
            scale_factor: `[N, 2]`, input size / image size, y then x.

        Returns: bbox `[M, 6]` (class, score, x1, y1, x2, y2) and bbox_num `[N]`, the rows of each image.
        """
        scores, boxes = self.detector(image)
        scale_y, scale_x = paddle.split(scale_factor, 2, axis=-1)
        scale = paddle.concat([scale_x, scale_y, scale_x, scale_y], axis=-1).reshape([-1, 1, 4])
        return multiclass_nms3(boxes / scale, scores, self._nms)


def export_model(
    detector: nn.Layer,
    out_dir: Path,
    kind: str,
    input_size: Sequence[int],
    infer_config: InferConfig,
    batch_size: int | None = None,
) -> ModelFolder:
    """Write a Paddle inference model; `verify_export` then compares it with the network.

    Args:
        detector: a `PicoDet`; its mode is restored afterwards.
        out_dir: folder for `model.pdmodel`, `model.pdiparams` and `infer_cfg.yml`.
        kind: `raw`, `boxes` or `detections`.
        input_size: height and width of the input, fixed in the model.
        infer_config: written beside it; its `nms` goes into a model of kind `detections`.
        batch_size: fixed in the model; None: any.

    Raises: `ConfigError` for an unknown kind, or when `input_size` is not that of `infer_config`; `UserError`
        when the disk cannot be written.
    """
    if tuple(infer_config.input_size) != tuple(input_size):
        raise ConfigError(
            f"the export's input size is {list(input_size)}, but target_size in its settings is "
            f"{list(infer_config.input_size)}: set Global.input_size only"
        )
    out_dir = Path(out_dir)
    form = build_form(detector, kind, infer_config.nms)
    specs = [InputSpec([batch_size, 3, *input_size], "float32", "image")]
    if kind == "detections":
        specs.append(InputSpec([batch_size, 2], "float32", "scale_factor"))
    with evaluation_mode(form), disk_errors(out_dir), paddle.utils.unique_name.guard():
        out_dir.mkdir(parents=True, exist_ok=True)
        write_layer(form, specs, out_dir)
    arch = "GFL" if kind == "detections" else "PicoDet"
    outputs = "logits" if kind == "raw" else "scores"
    write_infer_config(replace(infer_config, arch=arch, raw_outputs=outputs), out_dir)
    return ModelFolder.open(out_dir)


def write_layer(layer: nn.Layer, specs: Sequence[InputSpec], folder: Path) -> None:
    """Write any layer as `model.pdmodel` and `model.pdiparams`, complete, on either Paddle.

    Args:
        layer: in evaluation mode.
        specs: of its inputs.
        folder: made if it is not there.
    """
    program, values = traced_program(layer, specs)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / PARAMS, "wb") as stream:
        write_params(program, values, stream)
    with whole_file(folder / MODEL, "wb") as stream:
        stream.write(program.SerializeToString(deterministic=True))


def build_form(detector: nn.Layer, kind: str, nms: NmsSettings) -> nn.Layer:
    """The layer whose outputs are those of an export of `kind`.

    Raises: `ConfigError` for an unknown kind.
    """
    if kind == "raw":
        return RawForm(detector)
    if kind == "boxes":
        return BoxesForm(detector)
    if kind == "detections":
        return DetectionsForm(detector, nms)
    raise ConfigError(f"export kind {kind!r} is unknown: raw, boxes or detections is expected")
