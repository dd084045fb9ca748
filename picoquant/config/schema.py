"""Which keys a recipe may have. Sections of components are checked by whoever builds the component."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

# Keys of PaddleDetection files that picoquant reads.
_READ = {
    "architecture", "num_classes", "GFL", "metric", "PicoDet", "TrainDataset", "EvalDataset", "TestDataset",
    "TrainReader", "EvalReader", "TestReader", "worker_num", "epoch", "snapshot_epoch", "log_iter",
    "LearningRate", "OptimizerBuilder", "use_ema", "ema_decay", "ema_decay_type", "ema_black_list",
    "ema_filter_no_grad", "cycle_epoch", "pretrain_weights", "export", "use_vdl", "vdl_log_dir",
}  # fmt: skip

# Keys of PaddleDetection files that say nothing about the network, the data or the schedule, or that
# picoquant has an option for (--device, --save-dir, Global.weights); accepted and left alone.
_ACCEPTED = {
    "_BASE_", "weights", "find_unused_parameters", "keep_best_weight", "save_dir", "use_gpu", "use_xpu",
    "use_npu", "use_mlu", "use_gcu", "print_flops", "print_params", "eval_height", "eval_width", "eval_size",
    "map_type", "norm_type", "sync_bn", "save_prediction_only", "output_eval",
    "classwise", "bias", "amp", "fp16", "amp_level", "use_fused_allreduce_gradients", "ssld_path",
    "log_ranks", "checkpoint", "use_checkpoint", "to_static", "random_seed", "IouType", "hidden_dim",
    "export_post_process", "slim", "slim_method", "distill_loss", "distill_loss_name", "FGDFeatureLoss",
}  # fmt: skip

COMPONENTS = {
    "LCNet", "ESNet", "ShuffleNetV2", "MobileNetV3", "ResNet", "CSPPAN", "LCPAN", "PicoHead", "PicoHeadV2",
    "PicoFeat", "GFLHead", "FCOSFeat", "FPN", "PAN", "VarifocalLoss", "QualityFocalLoss",
    "DistributionFocalLoss", "GIoULoss", "SIoULoss", "DIouLoss", "IouLoss", "ATSSAssigner",
    "SimOTAAssigner", "TaskAlignedAssigner", "MultiClassNMS",
}  # fmt: skip

# PaddleSlim's own Global keys of other models, so that a file made for it is not refused.
_GLOBAL_ACCEPTED = {"arch", "input_list", "exclude_nms", "onnx_format", "format"}

EXPORT_KEYS = {"post_process", "nms", "benchmark", "fuse_conv_bn"}


def schema() -> dict[str, Any]:
    """Known keys: section -> keys below it (None: free, checked by the component's own settings)."""
    from picoquant.config.recipe import GlobalSettings, PackageSettings, SyntheticSettings
    from picoquant.config.training import TrainSection
    from picoquant.quantization.settings import (
        DistillationSettings,
        OwnSettings,
        QatTrainSettings,
        QuantAwareSettings,
    )

    def keys(settings: type, *more: str) -> dict[str, None]:
        return {field.name: None for field in fields(settings)} | dict.fromkeys(more)

    known: dict[str, Any] = dict.fromkeys(_READ | _ACCEPTED | COMPONENTS)
    known["export"] = dict.fromkeys(EXPORT_KEYS)
    known["Global"] = keys(GlobalSettings, *_GLOBAL_ACCEPTED)
    known["Distillation"] = keys(DistillationSettings)
    known["QuantAware"] = keys(QuantAwareSettings)
    known["TrainConfig"] = keys(QatTrainSettings)
    known["Quantize"] = keys(OwnSettings)
    known["Train"] = keys(TrainSection)
    known["Package"] = keys(PackageSettings)
    known["Synthetic"] = keys(SyntheticSettings)
    known["Calibration"] = None
    return known
