"""Which keys a recipe may have. Sections of components are checked by whoever builds the component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from picoquant.config.components import BACKBONES, HEADS, NECKS, components_of_heads
from picoquant.config.sections import GlobalSettings, PackageSettings, SyntheticSettings, TrainSection
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings
from picoquant.quantization.settings import DistillationSettings, QatTrainSettings, QuantizationSettings
from picoquant.utils.suggest import is_typing_error

# Keys of PaddleDetection files that picoquant reads.
_READ = {
    "architecture", "num_classes", "GFL", "metric", "PicoDet", "TrainDataset", "EvalDataset", "TestDataset",
    "TrainReader", "EvalReader", "TestReader", "worker_num", "epoch", "snapshot_epoch", "log_iter",
    "LearningRate", "OptimizerBuilder", "use_ema", "ema_decay", "ema_decay_type", "ema_black_list",
    "ema_filter_no_grad", "cycle_epoch", "pretrain_weights", "export", "use_vdl", "vdl_log_dir", "norm_type",
    "sync_bn", "use_tensorboard", "tensorboard_log_dir", "use_wandb", "use_mlflow", "UnstructuredPruner", "Pruner",
}  # fmt: skip

# Keys of `UnstructuredPruner` that earlier releases of PaddleDetection had at the top, beside `unstructured_prune`.
FLAT_PRUNER = (
    "stable_epochs", "pruning_epochs", "tunning_epochs", "pruning_steps", "ratio", "initial_ratio", "prune_params_type",
)  # fmt: skip

# Keys that stand in most PaddleDetection files and change no result, or that picoquant has an option for
# (--device, --save-dir, Global.weights); accepted in a file without a word.
_LEFT_ALONE = {
    "_BASE_", "weights", "find_unused_parameters", "keep_best_weight", "save_dir", "use_gpu", "use_xpu",
    "use_npu", "use_mlu", "use_gcu", "print_flops", "print_params", "eval_height", "eval_width", "eval_size",
    "use_fused_allreduce_gradients", "log_ranks", "to_static", "export_post_process", "map_type",
}  # fmt: skip

# Keys by which PaddleDetection would do something that picoquant does not, or does by a key of its own;
# accepted with a warning. Last: its distillation, pruning, quantisation and search (configs/slim,
# legacy_model/pruner, legacy_model/application/layout_analysis).
_WITHOUT_EFFECT = {
    "amp", "fp16", "amp_level", "random_seed", "checkpoint", "use_checkpoint", "classwise",
    "save_prediction_only", "output_eval", "ssld_path", "bias", "IouType", "hidden_dim",
    "slim", "slim_method", "distill_loss", "distill_loss_name", "FGDFeatureLoss", "CWDFeatureLoss",
    "MGDFeatureLoss", "PKDFeatureLoss", "LDGFLHead", "DistillPPYOLOELoss", "teacher_model",
    "unstructured_prune", *FLAT_PRUNER, "PrunerQAT", "QAT", "PTQ", "OFA",
    "task", "expand_ratio", "skip_neck", "skip_head", "RunConfig",
}  # fmt: skip
INSTEAD = {
    "amp": "Train.amp", "fp16": "Train.amp", "amp_level": "Train.amp", "random_seed": "Global.seed",
    "save_dir": "--save-dir", "weights": "Global.weights", "use_gpu": "--device", "QAT": "--slim_config",
    "PTQ": "--slim_config", "distill_loss": "--slim_config", "PrunerQAT": "--slim_config",
}  # fmt: skip

WIDER_FACE = "WiderFace"  # the metric of PaddleX's face detector; COCO's is counted in its place

# Components that may stand in a base of August 2021; none of them is built.
_NOT_BUILT = {"GFLHead", "FCOSFeat", "FPN"}
COMPONENTS = {*BACKBONES, *NECKS, *HEADS, *components_of_heads()} | _NOT_BUILT

# PaddleSlim's own Global keys of other models, so that a file made for it is not refused.
_GLOBAL_ACCEPTED = {"arch", "input_list", "exclude_nms", "include_post_process", "onnx_format", "format"}

ACCEPTED = _LEFT_ALONE | _WITHOUT_EFFECT
EXPORT_KEYS = {"post_process", "nms", "benchmark", "fuse_conv_bn"}


def without_effect(values: Mapping[str, Any]) -> list[str]:
    """The top-level keys of a PaddleDetection file that ask for what picoquant does not do by them."""
    read = {"unstructured_prune", *FLAT_PRUNER} if values.get("unstructured_prune") else set()
    if values.get("slim") in ("UnstructuredPruner", "Pruner") and values.get(values["slim"]):
        read.add("slim")
    return [
        key
        for key in values
        if key in _WITHOUT_EFFECT and key not in read and values[key] not in (None, False)
    ]


def is_slim_file(values: Mapping[str, Any]) -> bool:
    """Whether a file without a detector is one for `--slim_config`."""
    return isinstance(values.get("slim"), str) and "architecture" not in values


def unknown_to_both(values: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The top-level keys that neither picoquant nor PaddleDetection reads, but for typing errors.

    PaddleDetection lets them stand: users have anchors of their own there (`picodet_channel: &picodet_channel 144`).
    """
    return [str(key) for key in values if key not in known and not is_typing_error(str(key), known)]


def schema() -> dict[str, Any]:
    """Known keys: section -> keys below it (None: free, checked by the component's own settings)."""

    def keys(settings: type, *more: str) -> dict[str, None]:
        return {field.name: None for field in fields(settings)} | dict.fromkeys(more)

    known: dict[str, Any] = dict.fromkeys(_READ | ACCEPTED | COMPONENTS)
    known["export"] = dict.fromkeys(EXPORT_KEYS)
    known["Global"] = keys(GlobalSettings, *_GLOBAL_ACCEPTED)
    known["Distillation"] = keys(DistillationSettings)
    known["QuantAware"] = keys(QuantAwareSettings)
    known["TrainConfig"] = keys(QatTrainSettings)
    known["Quantize"] = keys(QuantizationSettings)
    known["Train"] = keys(TrainSection)
    known["UnstructuredPruner"] = keys(UnstructuredPrunerSettings)
    known["Pruner"] = keys(PrunerSettings)
    known["Package"] = keys(PackageSettings)
    known["Synthetic"] = keys(SyntheticSettings)
    known["Calibration"] = None
    return known
