"""PaddleDetection's `--slim_config` files as `KEY=VALUE` texts; kinds without a way here are refused by name.

Source of names and keys: PaddleDetection, configs/slim and ppdet/slim; PaddleSlim 2.6, dygraph/quant (qat.py, ptq.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from picoquant.config.distillation import distillation_overrides
from picoquant.config.named_now import named_now
from picoquant.config.slim_pruning import KINDS, pruning_keys
from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.utils.suggest import suggestion, unknown_key
from picoquant.yaml_files.load import load_mapping

LOG = logging.getLogger("picoquant")

# Kinds that picoquant has no way for -> what is meant.
_REFUSED = {
    "DistillPrune": "distillation and pruning in FP32",
    "OFA": "search of a smaller network",
}
_KINDS = ("QAT", "PTQ", "Distill", *KINDS)
# Of the training that QAT is in PaddleDetection; here QAT has keys of its own.
_SCHEDULE = (
    "epoch", "LearningRate", "OptimizerBuilder", "TrainReader", "snapshot_epoch", "worker_num", "use_ema", "ema_decay",
    "log_iter",
)  # fmt: skip
_SAME_KEYS = (
    "weight_quantize_type", "activation_quantize_type", "weight_bits", "activation_bits", "dtype", "window_size",
    "moving_rate",
)  # fmt: skip
_QAT_KEYS = (*_SAME_KEYS, "activation_preprocess_type", "quantizable_layer_type")
_QAT_NOT_READ = ("weight_preprocess_type", "fuse_conv_bn", "onnx_format")
# Layers -> the operators they are in an exported PicoDet; it has no Linear.
_LAYERS = {
    "Conv2D": ("conv2d", "depthwise_conv2d"),
    "Conv2DTranspose": ("conv2d_transpose",),
    "Linear": (),
}
_PTQ_KEYS = ("activation_quantizer", "weight_quantizer", "hist_percent")
_PTQ_NOT_READ = ("bins", "upsample_bins", "quant_bits")
_RANGES = {"KLQuantizer": "kl", "AbsmaxQuantizer": "min_max", "HistQuantizer": "percentile"}
_WEIGHTS = {"AbsmaxQuantizer": "abs_max", "PerChannelAbsmaxQuantizer": "channel_wise_abs_max"}
_HIST_PERCENT = 0.99999  # of HistQuantizer, where a file does not say


def slim_overrides(file: str, typed: Sequence[str] = ()) -> tuple[str, ...]:
    """What a file for `--slim_config` means, as `KEY=VALUE` texts; one line says it.

    Args:
        file: its path.
        typed: the command's own texts, which come after these and win.

    Returns: texts for `load_recipe`.

    Raises: `ConfigError` naming file and key, for a kind of compression that picoquant does not do too.
    """
    path = Path(file).expanduser()
    values = load_mapping(path)
    kind = values.get("slim")
    if kind in _REFUSED:
        raise ConfigError(
            f"{path}: slim: {kind}: {_REFUSED[kind]} is not supported; --slim_config takes {', '.join(_KINDS)}; "
            f"{NOT_SUPPORTED}"
        )
    if kind in KINDS:
        return _pruning(values, str(kind), path)
    if kind not in _KINDS:
        raise ConfigError(
            f"{path}: slim: expected one of {', '.join(_KINDS)}, found {kind!r}"
            f"{suggestion(str(kind), (*_KINDS, *_REFUSED))}"
        )
    if kind == "Distill":
        return _distill(values, path, typed)
    known = ("slim", kind, "pretrain_weights", "weights", *_SCHEDULE)
    for key in values:
        if key not in known:
            raise unknown_key(str(path), str(key), known)
    keys, not_read = (_qat if kind == "QAT" else _ptq)(_section(values, kind, path), path)
    keys.update(_start(values, kind, typed))
    not_read += [key for key in _SCHEDULE if values.get(key) is not None]
    LOG.info(
        "%s: %s of PaddleDetection's is stage quantize here: %s%s",
        path,
        kind,
        ", ".join(f"{key}={_text(value)}" for key, value in keys.items()),
        _instead(not_read, kind),
    )
    return tuple(f"{key}={_text(value)}" for key, value in keys.items())


def ends_with_quantize(file: str) -> bool:
    """Whether a training with such a file ends with an INT8 model, as QAT is a way to train in PaddleDetection."""
    return load_mapping(Path(file).expanduser()).get("slim") not in (
        "Distill",
        "UnstructuredPruner",
        "Pruner",
    )


def _distill(values: Mapping[str, Any], path: Path, typed: Sequence[str]) -> tuple[str, ...]:
    keys, not_read = distillation_overrides(values, path, named_now(typed), _SCHEDULE)
    LOG.info(
        "%s: Distill of PaddleDetection's is section Train here: %s%s",
        path,
        ", ".join(f"{key}={_text(value)}" for key, value in keys.items()),
        f"; not read: {', '.join(not_read)} (the student's file says that)" if not_read else "",
    )
    return tuple(f"{key}={_text(value)}" for key, value in keys.items())


def _pruning(values: Mapping[str, Any], kind: str, path: Path) -> tuple[str, ...]:
    texts, qat, said = pruning_keys(values, kind, path, _SCHEDULE)
    if kind == "PrunerQAT":
        keys, not_read = _qat({key.replace("print_qat", "print"): value for key, value in qat.items()}, path)
        texts += [f"{key}={_text(value)}" for key, value in keys.items()]
        said += f"; then stage quantize: {', '.join(keys)}{_instead(not_read, 'QAT')}"
    LOG.info("%s: %s of PaddleDetection's: %s", path, kind, said)
    return tuple(texts)


def _start(values: Mapping[str, Any], kind: str, typed: Sequence[str]) -> dict[str, Any]:
    """The trained weights that are quantised, by the key under which each kind names them."""
    now, key = named_now(typed), "pretrain_weights" if kind == "QAT" else "weights"
    if "Global.weights" in now or now.get("Global.model_dir"):
        return {}
    weights = now[key] if key in now else values.get(key)
    return {"Global.weights": weights} if weights else {}


def _qat(section: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    config = _config(section, "QAT", ("quant_config", "print_model"), path)
    where = f"{path}: QAT.quant_config"
    _check(config, (*_QAT_KEYS, *_QAT_NOT_READ), where)
    act = config.get("activation_preprocess_type")
    if act not in (None, "PACT"):
        raise ConfigError(
            f"{where}.activation_preprocess_type: expected PACT or null, found {act!r}; {NOT_SUPPORTED}"
        )
    layers = config.get("quantizable_layer_type", ["Conv2D", "Linear"])
    for layer in layers if isinstance(layers, list) else [layers]:
        if layer not in _LAYERS:
            raise ConfigError(
                f"{where}.quantizable_layer_type: {layer!r} is not known, only {', '.join(_LAYERS)}; {NOT_SUPPORTED}"
            )
    operators = [name for layer in layers for name in _LAYERS[layer]]
    keys = {"Quantize.method": "qat", "QuantAware.use_pact": act == "PACT"}
    keys |= {f"QuantAware.{key}": config[key] for key in _SAME_KEYS if key in config}
    keys |= {"QuantAware.quantize_op_types": operators}
    return keys, [key for key in _QAT_NOT_READ if config.get(key)]


def _ptq(section: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    config = _config(
        section, "PTQ", ("ptq_config", "quant_batch_num", "fuse", "fuse_list", "output_dir"), path
    )
    where = f"{path}: PTQ.ptq_config"
    _check(config, (*_PTQ_KEYS, *_PTQ_NOT_READ), where)
    chosen: dict[str, str] = {}
    for key, known, default in (
        ("activation_quantizer", _RANGES, "KLQuantizer"),
        ("weight_quantizer", _WEIGHTS, "PerChannelAbsmaxQuantizer"),
    ):
        name = config.get(key, default)
        if name not in known:
            raise ConfigError(
                f"{where}.{key}: expected one of {', '.join(known)}, found {name!r}; {NOT_SUPPORTED}"
            )
        chosen[key] = known[name]
    keys: dict[str, Any] = {"Quantize.method": "ptq", "Quantize.ranges": chosen["activation_quantizer"]}
    if keys["Quantize.ranges"] == "percentile":
        part = config.get("hist_percent", _HIST_PERCENT)
        if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0.5 < part < 1:
            raise ConfigError(f"{where}.hist_percent: expected a part between 0.5 and 1, found {part!r}")
        keys["Quantize.percentile"] = round(part * 100, 9)
    keys["QuantAware.weight_quantize_type"] = chosen["weight_quantizer"]
    return keys, [key for key in _PTQ_NOT_READ if key in config] + [
        key for key in ("quant_batch_num", "fuse_list", "output_dir") if section.get(key)
    ]


def _config(section: Mapping[str, Any], kind: str, known: Sequence[str], path: Path) -> Mapping[str, Any]:
    """The mapping inside of a section, the first of `known`; all keys beside it checked."""
    _check(section, known, f"{path}: {kind}")
    return _section(section, known[0], path, f"{kind}.")


def _section(values: Mapping[str, Any], name: str, path: Path, above: str = "") -> Mapping[str, Any]:
    section = values.get(name)
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: {above}{name}: expected keys and values, found {section!r}")
    return section


def _check(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise unknown_key(where, str(key), known)


def _instead(not_read: Sequence[str], kind: str) -> str:
    if not not_read:
        return ""
    own = "Quantize, TrainConfig and Calibration" if kind == "QAT" else "Quantize and Calibration"
    return f"; not read: {', '.join(not_read)} (sections {own} of a recipe say that)"


def _text(value: Any) -> str:
    """A value as YAML that an override reads as the same."""
    return value if isinstance(value, str) else json.dumps(value)
