"""Which forms of a model a target's package holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from picoquant.backends.base import MACHINE, Backend, Found, load_backend, load_backends
from picoquant.backends.scheme import not_symmetric
from picoquant.backends.source import Source
from picoquant.backends.table import BACKENDS
from picoquant.errors import ConfigError, SchemeError, ToolError
from picoquant.packaging.board_program import PROGRAMS
from picoquant.storage.files import sha256
from picoquant.targets.profiles import Target

INT8_NB, FP32_NB, FP16_NB = "model.nb", "model_fp32.nb", "model_fp16.nb"
PRECISIONS = {"int8": INT8_NB, "fp32": FP32_NB, "fp16": FP16_NB}
ONNX, FP32_ONNX = "model_int8.onnx", "model_fp32.onnx"
ONNX_VARIANTS = {"boxes": "model_int8_boxes.onnx", "detections": "model_int8_detections.onnx"}
PLAIN_ONNX = "model_qdq.onnx"  # for other compilers, see `backends/onnx/plain.py`
PADDLE = "paddle"


@dataclass(frozen=True)
class Forms:
    """What to make for a target.

    Attributes:
        npu_nb: a `.nb` of the INT8 model for the NPU.
        cpu_nb: `.nb` files for the CPU: FP32 and FP16 of the float model, INT8 of the INT8 model.
        backends: whose files of the INT8 model it has beside the ONNX.
    """

    npu_nb: bool
    cpu_nb: bool
    backends: tuple[Backend, ...] = ()

    @property
    def with_programs(self) -> tuple[Backend, ...]:
        """Those of `backends` that there are programs for; of those with the same programs the first."""
        first: dict[str, Backend] = {}
        for backend in self.backends:
            if backend.name in PROGRAMS:
                first.setdefault(PROGRAMS[backend.name].network or backend.name, backend)
        return tuple(first.values())

    @property
    def lite(self) -> bool:
        """Whether Paddle Lite, and so its opt, has a part in it."""
        return self.npu_nb or self.cpu_nb

    @property
    def needs_int8(self) -> bool:
        """Whether nothing can be made of a float model alone."""
        return not self.cpu_nb


def files_in(package: Path, known: Mapping[str, str] = BACKENDS) -> dict[str, Path]:
    """The files of the INT8 model that a package holds, by the name of the backend that runs them.

    What the other backends run is made of the Paddle form.
    """
    named = {backend.family: backend.file for backend in load_backends(known) if backend.file}
    return {backend: package / name for backend, name in named.items() if (package / name).is_file()}


def models_in(
    package: Path, forms: Forms, nb: Sequence[tuple[str, str, str]] = ()
) -> list[tuple[str, str, str]]:
    """The models that the programs of a package run, as `board_program.settings` takes them, the usual one first.

    The usual one is called by its precision, those for other runtimes by their backend, as in `--model tflite`.

    Args:
        package: the folder, which holds the files already.
        forms: what it is for.
        nb: those of Paddle Lite.
    """
    models = list(nb)
    for backend in forms.backends:
        models.append((backend.name if models else "int8", backend.file, sha256(package / backend.file)))
    return models


def forms_of(target: Target, known: Mapping[str, str] = BACKENDS) -> Forms:
    """The forms for a target: decided by how Paddle Lite reaches it, by who makes its NPU, and by its backends.

    Raises: `ConfigError` for a backend that has no files for packages.
    """
    cpu = target.paddle_lite is not None and not target.on_npu
    backends = []
    for name in target.backends:
        backend = load_backend(name, known) if name in known else None
        if backend is None or not backend.file or backend.file == ONNX:
            possible = [one.name for one in load_backends(known) if one.file and one.file != ONNX]
            raise ConfigError(
                f"{target.name}: backends: no backend {name!r} writes files for packages; possible: "
                f"{', '.join(possible) or 'none'}"
            )
        backends.append(backend)
    return Forms(target.on_npu, cpu, tuple(backends))


def without_nb(forms: Forms, target: Target, model: Source | None, compiles: bool) -> tuple[Forms, str]:
    """The forms of a model with zero points, which a `.nb` has no place for and the network compiled for the chip has.

    Args:
        forms, target: see `forms_of`.
        model: INT8; None where there is none.
        compiles: whether a compiled network is asked for, see `npu/emulated/compiled.py`.

    Returns: the forms without the `.nb`, and why; of other models and targets the same forms.

    Raises: `SchemeError` naming a tensor where the compiled network would hold it and is not asked for.
    """
    if model is None or not forms.npu_nb or target.verisilicon is None or not model.network.zero_points:
        return forms, ""
    name = next(iter(model.network.zero_points))
    if not compiles:
        raise SchemeError(
            f"Paddle Lite cannot hold {model.folder.path}: {not_symmetric(name)}; or set Package.compiled=true: the "
            f"network compiled for {target.name}'s NPU holds it"
        )
    return replace(forms, npu_nb=False), f"Paddle Lite's format has no zero points, as tensor {name} has one"


def tools_of(forms: Forms) -> tuple[dict[str, Found], dict[str, str]]:
    """The tools of the backends of a package by their names, and why those that are absent are left out.

    Raises: `ToolError` where without it nothing in the package would run on the board: Paddle Lite has no part in it.
    """
    found, left_out = {}, {}
    for backend in forms.backends:
        try:
            found[backend.name] = backend.toolchain.find(MACHINE)
        except ToolError as error:
            if not forms.lite:
                raise
            left_out[backend.name] = str(error)
    return found, left_out
