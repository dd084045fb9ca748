"""Load the weights of an ONNX export of PicoDet into the network.

The network is exported to ONNX too, with a different number as the weights of each convolution, which
identifies the layer of every convolution in that export. Then the convolutions of the two graphs are matched.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.convert.conv_graph import Conv, colours, read_convs
from picoquant.detector.modes import evaluation_mode
from picoquant.errors import WeightsError, reason_of
from picoquant.paddle_program.edit import batch_of_one, write_program
from picoquant.paddle_program.finite import require_finite
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import MODEL, find_files
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program

TOLERANCE = 1e-3  # of the largest magnitude of an output
_MAX_BYTES = 512 << 20


@dataclass(frozen=True)
class OnnxReport:
    """The result of `load_onnx`.

    Attributes:
        convs: number of convolutions whose weights were loaded.
        folded: number of them whose batch-norm the exporter folded; its statistics are lost, so the
            network's batch-norm is set to only add the bias.
        outputs: number of outputs that were compared.
        difference: their largest difference, as a fraction of the output's largest magnitude.
    """

    convs: int
    folded: int
    outputs: int
    difference: float


def load_onnx(model: Any, path: Path, input_size: Sequence[int]) -> OnnxReport:
    """Load the weights of an ONNX export into a detector, and compare both on an image of noise.

    Args:
        model: a `PicoDet` with the export's number of classes.
        path: ONNX in float, batch-norm folded or not, with or without post-processing; or a Paddle model folder, which
            paddle2onnx converts first.
        input_size: height and width, pixels, used where the export does not fix them.

    Raises: `WeightsError` when the file cannot be read or run, the graphs differ, or their outputs differ by
        more than `TOLERANCE`.
    """
    onnx_model = _of_folder(Path(path), input_size) if Path(path).is_dir() else _read(path)
    theirs = read_convs(onnx_model, path)
    layers = _layers(model)
    ours, names = _own_convs(model, layers, input_size)
    pairs = _match(theirs, ours, path)
    folded = _set_weights(layers, [(conv, names[index]) for conv, index in pairs], path)
    final = [(conv, names[index]) for conv, index in pairs if not _is_source(ours, index)]
    count, difference = _compare(model, onnx_model, final, path, input_size)
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"{path}: matched, but network and ONNX differ by {difference:.2g} of the largest output (up to "
            f"{TOLERANCE} is rounding); is it an export of this --config?"
        )
    return OnnxReport(len({names[index] for _, index in pairs}), folded, count, difference)


def _read(path: Path) -> Any:
    import onnx

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no such file: {path}; name an ONNX export of PicoDet")
    if path.stat().st_size > _MAX_BYTES:
        raise WeightsError(f"{path}: {path.stat().st_size >> 20} MiB are more than any PicoDet's export")
    try:
        return onnx.load_model_from_string(path.read_bytes())  # does not load external data from other files
    except Exception as error:  # protobuf's DecodeError is not a public exception
        raise WeightsError(f"{path}: no ONNX file, or a damaged one{reason_of(error)}") from error


def _of_folder(path: Path, input_size: Sequence[int]) -> Any:
    """A model folder's network for one image as ONNX."""
    model, params = find_files(path)
    require_finite(read_params(read_program(model), params), params)
    with tempfile.TemporaryDirectory(prefix="picoquant-convert-") as scratch:
        single = Path(scratch) / MODEL
        write_program(batch_of_one(model, input_size), single)
        return paddle_to_onnx(single, params)


@dataclass(frozen=True)
class _Layer:
    """A convolution of the network and the batch-norm after it (None: there is none)."""

    conv: Any
    norm: Any


def _layers(model: Any) -> dict[str, _Layer]:
    """The network's convolutions by name, in the order in which they run."""
    import paddle
    from paddle import nn

    names = {id(layer): name for name, layer in model.named_sublayers()}
    outputs: dict[int, tuple[Any, Any]] = {}  # id of a convolution's output -> layer, output
    found: dict[str, _Layer] = {}

    def after(layer: Any, inputs: Any, output: Any) -> None:
        if isinstance(layer, nn.Conv2D):
            outputs[id(output)] = (layer, output)  # kept alive, so that no other tensor gets its id
            found.setdefault(names[id(layer)], _Layer(layer, None))
        elif id(inputs[0]) in outputs:
            conv = outputs[id(inputs[0])][0]
            found[names[id(conv)]] = _Layer(conv, layer)

    kinds = (nn.Conv2D, nn.BatchNorm2D)
    hooks = [
        layer.register_forward_post_hook(after) for layer in model.sublayers() if isinstance(layer, kinds)
    ]
    with evaluation_mode(model), paddle.no_grad():
        model.raw(paddle.zeros([1, 3, 64, 64]))
    for hook in hooks:
        hook.remove()
    return found


def _own_convs(
    model: Any, layers: dict[str, _Layer], input_size: Sequence[int]
) -> tuple[list[Conv], list[str]]:
    """The convolutions of an export of the network, and the layer name of each.

    The network's weights are changed for the export and restored afterwards.
    """
    from picoquant.export.paddle_export import export_model

    before = {name: value.numpy() for name, value in model.state_dict().items()}
    try:
        for number, layer in enumerate(layers.values()):
            layer.conv.weight.set_value(np.full(layer.conv.weight.shape, number + 1, np.float32))
            if layer.norm is not None:
                _only_add_bias(layer.norm, np.zeros(layer.norm.bias.shape, np.float32))
        with tempfile.TemporaryDirectory(prefix="picoquant-convert-") as scratch:
            size = (int(input_size[0]), int(input_size[1]))
            folder = export_model(model, Path(scratch), "raw", size, InferConfig(size, ("any",)), 1)
            convs = read_convs(paddle_to_onnx(folder.model, folder.params), folder.model)
    finally:
        own = model.state_dict()
        for name, value in before.items():
            own[name].set_value(value)
    names = list(layers)
    return convs, [names[int(round(float(conv.weight.flat[0]))) - 1] for conv in convs]


def _only_add_bias(norm: Any, bias: np.ndarray) -> None:
    """Set a batch-norm so that it adds `bias` and does nothing else."""
    count = norm.bias.shape
    norm.weight.set_value(np.ones(count, np.float32))
    norm.bias.set_value(bias)
    norm._mean.set_value(np.zeros(count, np.float32))
    norm._variance.set_value(np.full(count, 1 - norm._epsilon, np.float32))


def _match(theirs: list[Conv], ours: list[Conv], path: Path) -> list[tuple[Conv, int]]:
    """Each convolution of `theirs` with the index of its counterpart in `ours`.

    Convolutions of equal colour are matched in the order of the graphs.
    """
    if len(theirs) != len(ours):
        raise WeightsError(
            f"{path}: has {len(theirs)} convolutions, the network of --config {len(ours)}; name the "
            "configuration it was exported from"
        )
    shapes = [Counter(str(list(conv.weight.shape)) for conv in convs) for convs in (theirs, ours)]
    if shapes[0] != shapes[1]:
        shape, count = next(iter((shapes[0] - shapes[1]).items()))
        raise WeightsError(
            f"{path}: has {shapes[0][shape]} convolutions with weights {shape}, the network of --config "
            f"{shapes[1][shape]}; is num_classes {'the same' if count else 'right'}?"
        )
    their_colours, our_colours = colours([theirs, ours])
    by_colour = defaultdict(list)
    for index, colour in enumerate(our_colours):
        by_colour[colour].append(index)
    pairs = []
    for conv, colour in zip(theirs, their_colours):
        if not by_colour[colour]:
            raise WeightsError(
                f"{path}: its convolutions have the network's shapes but are joined otherwise (at {conv.output})"
            )
        pairs.append((conv, by_colour[colour].pop(0)))
    return pairs


def _is_source(convs: list[Conv], index: int) -> bool:
    """Whether convolution `index` is a source of another one, so not a final one."""
    return any(index in conv.sources for conv in convs)


def _set_weights(layers: dict[str, _Layer], pairs: list[tuple[Conv, str]], path: Path) -> int:
    """Set the weights of the layers by name; returns the number of batch-norms that were folded."""
    folded = 0
    done: dict[str, np.ndarray] = {}
    for conv, name in pairs:
        if name in done:
            if not np.array_equal(done[name], conv.weight):
                raise WeightsError(f"{path}: {name} is one layer in the network and several in the file")
            continue
        done[name] = conv.weight
        layer = layers[name]
        values = [conv.weight, conv.bias, *(conv.norm or ())]
        if not all(np.isfinite(value).all() for value in values):
            raise WeightsError(f"{path}: the weights of {name} hold values that are no finite numbers")
        weight, bias = (value.astype(np.float32) for value in (conv.weight, conv.bias))
        norm = conv.norm
        if norm is not None and layer.norm is None:
            scale = norm[0] / np.sqrt(norm[3] + conv.epsilon)
            weight, bias, norm = weight * scale[:, None, None, None], (bias - norm[2]) * scale + norm[1], None
        layer.conv.weight.set_value(weight)
        if norm is not None:
            gamma, beta, mean, variance = (value.astype(np.float32) for value in norm)
            layer.norm.weight.set_value(gamma)
            layer.norm.bias.set_value(beta)
            layer.norm._mean.set_value(mean - (bias if layer.conv.bias is None else 0))
            layer.norm._variance.set_value(variance + np.float32(conv.epsilon - layer.norm._epsilon))
        elif layer.norm is not None:
            folded += 1
            _only_add_bias(layer.norm, bias if layer.conv.bias is None else np.zeros_like(bias))
        if layer.conv.bias is not None:
            layer.conv.bias.set_value(bias)
        elif layer.norm is None and bias.any():
            raise WeightsError(f"{path}: {name} has a bias in the file and none in the network")
    return folded


def _compare(
    model: Any, onnx_model: Any, final: list[tuple[Conv, str]], path: Path, input_size: Sequence[int]
) -> tuple[int, float]:
    """Run both on noise and compare the outputs of the final convolutions.

    Returns: number of outputs compared, and the largest relative difference (see `OnnxReport`).
    """
    import onnx
    import onnxruntime
    import paddle

    if not final:
        raise WeightsError(f"{path}: its last convolutions feed each other; nothing to compare")
    extended = onnx.ModelProto()
    extended.CopyFrom(onnx_model)
    present = {output.name for output in extended.graph.output}
    extended.graph.output.extend(
        onnx.ValueInfoProto(name=conv.output) for conv, _ in final if conv.output not in present
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            extended.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed = _feed(session.get_inputs(), input_size)
        image = next(value for value in feed.values() if value.ndim == 4)
        theirs = session.run([conv.output for conv, _ in final], feed)
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        text = " ".join(str(error).split())[:300]
        raise WeightsError(f"{path}: ONNX Runtime cannot run it: {text}") from error
    ours: dict[str, list[np.ndarray]] = defaultdict(list)
    hooks = []
    for name, layer in _layers(model).items():
        last = layer.norm if layer.norm is not None else layer.conv

        def keep(_: Any, __: Any, output: Any, name: str = name) -> None:
            ours[name].append(output.numpy())

        hooks.append(last.register_forward_post_hook(keep))
    with evaluation_mode(model), paddle.no_grad():
        model.raw(paddle.to_tensor(image))
    for hook in hooks:
        hook.remove()
    worst = 0.0
    for (_, name), value in zip(final, theirs):
        mine = ours[name].pop(0)
        if mine.shape != value.shape:
            raise WeightsError(f"{path}: {name} gives {list(value.shape)}, in the network {list(mine.shape)}")
        worst = max(worst, float(np.abs(mine - value).max() / max(np.abs(mine).max(), 1e-6)))
    return len(final), worst


def _feed(inputs: Sequence[Any], input_size: Sequence[int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    sizes = (1, 3, *input_size)
    feed = {}
    for item in inputs:
        sides = [side if isinstance(side, int) and side > 0 else 0 for side in item.shape]  # 0: of any length
        if len(sides) == 4:
            shape = [side or size for side, size in zip(sides, sizes)]
            feed[item.name] = random.standard_normal(shape, np.float32)
        else:  # scale_factor, im_shape
            feed[item.name] = np.ones([side or 1 for side in sides], np.float32)
    return feed
