"""The scenarios as data: networks, how each run differs from the network's own, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """Trained weights and a few images of a data set.

    Attributes:
        weights: file in `../shared/weights`.
        data: folder in `../shared/datasets`.
        images, annotations: of training and validation, inside it.
        input_size: side of the square input, pixels.
        counts: how many images of each are used.
        photos: images that `predict` and the simulation are given; the first is the simulation's.
        settings: `KEY.SUB=VALUE` texts besides.
    """

    weights: str
    data: str
    images: tuple[str, str]
    annotations: tuple[str, str]
    input_size: int
    counts: tuple[int, int]
    photos: tuple[str, ...]
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run of the shipped recipe with a network's weights.

    Attributes:
        network: key of `NETWORKS`.
        settings: `KEY.SUB=VALUE` texts.
        targets: packaged for; none: not packaged.
        evaluated: whether the stage `evaluate` is run and detections of `photos` are recorded.
    """

    network: str
    settings: tuple[str, ...]
    targets: tuple[str, ...] = ()
    evaluated: bool = False


NETWORKS = {
    "npu": Network(
        "picodet_s_npu_bccd.pdparams",
        "bccd",
        ("JPEGImages", "JPEGImages"),
        ("instances_train.json", "instances_val.json"),
        256,
        (8, 4),
        tuple(f"JPEGImages/BloodImage_{number}.jpg" for number in ("00000", "00002", "00014")),
    ),
    "esnet": Network(
        "picodet_s_320_coco.pdparams",
        "tiny_coco",
        ("train2017", "val2017"),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        160,
        (6, 4),
        tuple(f"val2017/{number:012}.jpg" for number in (6818, 17627, 25560)),
        ("Global.config=picodet_s_320_coco",),
    ),
}

COMMON = ("worker_num=0", "EvalReader.batch_size=2", "TrainConfig.train_iter=4", "TrainConfig.eval_iter=4")
PTQ = ("Quantize.method=ptq",)
# Scaled to 2.5e-5 by the step of 2 images; with more the loss diverges. Without an evaluation the last step is kept.
QAT = ("Quantize.method=qat", "TrainConfig.learning_rate=0.0001")
LAST_STEP = ("Global.Evaluation=false",)
CONFIGURED = (
    "Quantize.training=configured",
)  # ranges are learned so alone; the shipped recipe trains by levels
PER_TENSOR = ("QuantAware.weight_quantize_type=abs_max",)
FLOAT_TAKEN = ("Package.target=arm_cpu",)

# The targets that are asked; a profile added later changes no pin.
TARGETS = ("a311d", "arm_cpu", "c308x", "generic_onnx", "imx8mp", "rk1808", "rv1109", "rv1126", "s905d3")

RUNS = {
    "npu_ptq": Run("npu", PTQ, ("rv1126", "arm_cpu", "generic_onnx"), True),
    "npu_qat": Run("npu", (*QAT, "QuantAware.use_pact=false"), ("rv1126",), True),
    "npu_qat_pact": Run("npu", (*QAT, *LAST_STEP, *CONFIGURED, "QuantAware.use_pact=true"), ("rv1126",)),
    "npu_qat_lsq": Run(
        "npu",
        (*QAT, *LAST_STEP, *CONFIGURED, "QuantAware.use_pact=false", "Quantize.learned_ranges=lsq"),
        ("rv1126",),
    ),
    "esnet_ptq": Run("esnet", PTQ, ("rv1126",), True),
    "esnet_qat": Run("esnet", (*QAT, *LAST_STEP), ("rv1126",)),
    "npu_per_tensor": Run("npu", (*PTQ, *LAST_STEP, *PER_TENSOR)),
    "npu_keep_float": Run("npu", (*PTQ, *LAST_STEP, *FLOAT_TAKEN, "Quantize.keep_float=[conv2d_5]")),
    "npu_reconstructed": Run("npu", (*PTQ, *LAST_STEP, "Quantize.rounding=reconstructed")),
    "npu_unequalised_min_max": Run(
        "npu",
        (
            *PTQ, *LAST_STEP, "Quantize.cross_layer_equalisation=false", "Quantize.ranges=min_max",
            "Quantize.fold_batch_norm=false",
        ),
    ),
    "npu_max_drop": Run("npu", (*PTQ, *PER_TENSOR, *FLOAT_TAKEN, "Quantize.max_drop=0.15")),
}  # fmt: skip

# What else is asked of a run's INT8 model; see `record.QUESTIONS`.
ASKED = {
    "npu_ptq": ("check", "simulation", "analyze", "backends"),
    "esnet_ptq": ("check", "simulation", "analyze", "ladder"),
}
