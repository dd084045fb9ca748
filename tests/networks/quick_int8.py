"""An INT8 model within seconds: a network of random weights, ranges measured on one batch, no training.

Where its operators run does not depend on what its weights are.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from picoquant.paddle_program.infer_config import InferConfig, write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder

LABELS = ("one", "two", "three")


def exported(config: str, folder: Path, size: int = 64, kind: str = "raw") -> ModelFolder:
    """A shipped configuration's network of three classes, exported; made once and copied after that."""
    shutil.copytree(Path(_exported(config, size, kind).name) / kind, folder, dirs_exist_ok=True)
    return ModelFolder.open(folder)


@cache
def _exported(config: str, size: int, kind: str) -> TemporaryDirectory:
    import picoquant
    from picoquant.export.paddle_export import export_model

    model = picoquant.build_detector(config, num_classes=len(LABELS))
    random = np.random.RandomState(3)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in state.items():
        if value.ndim == 4:  # values as large behind a layer as before it
            state[name] = random.randn(*value.shape) * np.sqrt(2 / np.prod(value.shape[1:]))
        elif not name.endswith(("project", "_mean", "_variance")):
            state[name] = value + 0.1 * random.randn(*value.shape)
    model.set_state_dict({name: value.astype(np.float32) for name, value in state.items()})
    model.eval()
    settings = InferConfig((size, size), LABELS, strides=tuple(model.strides))
    folder = TemporaryDirectory(prefix="picoquant-test-export-")
    export_model(model, Path(folder.name) / kind, kind, (size, size), settings)
    return folder


def quick_int8(
    model: ModelFolder, folder: Path, images: np.ndarray | None = None, kept: tuple[int, ...] = (), **quant
) -> ModelFolder:
    """Quantise an exported model by the ranges of one batch.

    Args:
        model: exported.
        folder: to write.
        images: the batch, `[N, 3, H, W]`; None: one of noise.
        kept: which of the quantisable operators stay in float, in the network's order.
        quant: keys of section QuantAware.
    """

    from picoquant.int8.build import Int8Source, build_network
    from picoquant.int8.operators import quantizable_operators
    from picoquant.int8.paddle.writer import write_lite_model
    from picoquant.int8.scheme import QuantAwareSettings
    from picoquant.paddle_program.editing.program_model import ProgramModel
    from tests.networks.ranges import measured_ranges, with_zero_points

    height, width = model.config.input_size
    if images is None:
        images = np.random.RandomState(0).rand(1, 3, height, width).astype(np.float32)
    batch = {"image": images, "scale_factor": np.ones((len(images), 2), np.float32)}
    settings = QuantAwareSettings(**quant)
    folder.mkdir(parents=True, exist_ok=True)
    loaded = ProgramModel.load(model.path)
    ranges, zeros = measured_ranges(loaded, batch), {}
    if not settings.symmetric_activations:
        ranges, zeros = with_zero_points(loaded, batch)
    operators = quantizable_operators(loaded, settings)
    floats = frozenset(operators[index].output for index in kept)
    operators = tuple(operator for operator in operators if operator.output not in floats)
    source = Int8Source(model.path, {}, ranges, operators, settings, floats, zeros)
    write_lite_model(build_network(source), folder)
    write_infer_config(model.config, folder)
    return ModelFolder.open(folder)
