"""Which forms of a model a target's package holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from picoquant.targets.profiles import Target

INT8_NB, FP32_NB, FP16_NB = "model.nb", "model_fp32.nb", "model_fp16.nb"
PRECISIONS = {"int8": INT8_NB, "fp32": FP32_NB, "fp16": FP16_NB}
ONNX, FP32_ONNX = "model_int8.onnx", "model_fp32.onnx"
ONNX_VARIANTS = {"boxes": "model_int8_boxes.onnx", "detections": "model_int8_detections.onnx"}
PADDLE = "paddle"
# The files of a package that backends run; what others run is made of the Paddle form.
FILES = {"onnx": ONNX}


@dataclass(frozen=True)
class Forms:
    """What to make for a target.

    Attributes:
        npu_nb: a `.nb` of the INT8 model for the NPU.
        cpu_nb: `.nb` files for the CPU: FP32 and FP16 of the float model, INT8 of the INT8 model.
    """

    npu_nb: bool
    cpu_nb: bool

    @property
    def lite(self) -> bool:
        """Whether Paddle Lite, and so its opt, has a part in it."""
        return self.npu_nb or self.cpu_nb

    @property
    def needs_int8(self) -> bool:
        """Whether nothing can be made of a float model alone."""
        return not self.cpu_nb


def files_in(package: Path) -> dict[str, Path]:
    """The files of `FILES` that a package holds, by the name of the backend that runs them."""
    return {backend: package / name for backend, name in FILES.items() if (package / name).is_file()}


def forms_of(target: Target) -> Forms:
    """The forms for a target: decided by how Paddle Lite reaches it, and by who makes its NPU."""
    cpu = target.paddle_lite is not None and not target.on_npu
    return Forms(target.on_npu, cpu)
