"""The sections of a recipe that no other room owns, as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils.batching import DYNAMIC, MAX_BATCH


@dataclass(frozen=True)
class GlobalSettings:
    """Section `Global`: what the stages share.

    Attributes:
        config: the detector's configuration, a path or a shipped name.
        reader_config: PaddleDetection's name for a file with data sets and readers only.
        weights: a file of trained weights; training is skipped.
        weights_elsewhere: trained weights for a run folder that has none; training is not skipped.
        model_dir: folder of an exported model; training and export are skipped.
        model_filename, params_filename: names inside `model_dir`.
        include_nms: whether `model_dir`'s model has NMS inside (checked against the model).
        Evaluation: evaluate at the end.
        input_size: `[height, width]` of the network's input, or None for the configuration's. The sizes of readers that
            stand below it, in a base, the configuration or, where a command sets it, any file, follow it; those of the
            same file and of later ones hold.
        seed: of everything drawn at random.
        allow_http: fetch `pretrain_weights` by http too, where anyone on the way can change it.
    """

    config: str | None = None
    reader_config: str | None = None
    weights: str | None = None
    weights_elsewhere: str | None = None
    model_dir: str | None = None
    model_filename: str = "model.pdmodel"
    params_filename: str = "model.pdiparams"
    include_nms: bool = True
    Evaluation: bool = True
    input_size: tuple[int, int] | None = None
    seed: int = 0
    allow_http: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.allow_http, bool):
            raise ConfigError(f"Global.allow_http: expected true or false, found {self.allow_http!r}")
        if self.input_size is not None:
            object.__setattr__(self, "input_size", network_size(self.input_size, "Global.input_size"))
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"Global.seed: expected a whole number from 0, found {self.seed!r}")
        if self.weights and self.model_dir:
            raise ConfigError(
                "Global.weights and Global.model_dir are both set; name the trained weights or the exported "
                "model, and set the other to null"
            )


QDQ_NUMBERS = ("uint8", "int8")


@dataclass(frozen=True)
class PackageSettings:
    """Section `Package`: for which boards.

    Attributes:
        target: a shipped NPU profile, a profile's path, or a list of them.
        batch: images a call of the ONNX files, 1 to 256, or `dynamic`: any number; all other forms take one.
        qdq: integers of activations in `model_qdq.onnx`, the form for other compilers: `uint8` or `int8`.
        compiled: whether a package holds `network_binary.nb`, too, the network compiled for the chip, where the profile
            names it (`verisilicon`); needs `picoquant toolchain install verisilicon`.
    """

    target: Any = "rv1126"
    batch: Any = 1
    qdq: str = "uint8"
    compiled: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.compiled, bool):
            raise ConfigError(f"Package.compiled: expected true or false, found {self.compiled!r}")
        if self.qdq not in QDQ_NUMBERS:
            raise ConfigError(f"Package.qdq: expected {' or '.join(QDQ_NUMBERS)}, found {self.qdq!r}")
        whole = isinstance(self.batch, int) and not isinstance(self.batch, bool)
        if not (self.batch == DYNAMIC or whole and 1 <= self.batch <= MAX_BATCH):
            raise ConfigError(
                f"Package.batch: expected 1 to {MAX_BATCH} images or {DYNAMIC}, found {self.batch!r}"
            )


@dataclass(frozen=True)
class SyntheticSettings:
    """Section `Synthetic`: a generated data set, instead of one on disk.

    Attributes:
        train_images, val_images: how many.
        image_size: side of the square images, pixels.
    """

    train_images: int = 160
    val_images: int = 160
    image_size: int = 192

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"Synthetic.{field.name}: expected a whole number from 1, found {value!r}")


@dataclass(frozen=True)
class CalibrationSettings:
    """A file of `calib/`: which images drive quantisation, and how.

    Attributes:
        images: `train` or `val`: the images of TrainDataset or EvalDataset.
        files: a text file that names them, one a line; looked for beside the file of `calib/`, too. None: any.
        count: how many of them; None for all. QAT is driven by these images, and ranges are measured on all of
            them that fill batches; None: on 8 batches.
        choose: which: the `first`, `random` ones, or `balanced`: random ones with all classes alike.
        shuffle: use them in an order drawn with `seed`; false: in the data set's order.
        seed: of what is drawn.
        batch_size: images a step; None for the evaluation reader's.
    """

    images: str = "train"
    files: str | None = None
    count: int | None = None
    choose: str = "first"
    shuffle: bool = True
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.images not in ("train", "val"):
            raise ConfigError(f"Calibration.images: expected train or val, found {self.images!r}")
        if self.choose not in ("first", "random", "balanced"):
            raise ConfigError(
                f"Calibration.choose: expected first, random or balanced, found {self.choose!r}"
            )
        if self.files is not None and not isinstance(self.files, str):
            raise ConfigError(f"Calibration.files: expected the path of a text file, found {self.files!r}")
        if not isinstance(self.shuffle, bool):
            raise ConfigError(f"Calibration.shuffle: expected true or false, found {self.shuffle!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ConfigError(f"Calibration.seed: expected a whole number from 0, found {self.seed!r}")
        for name in ("count", "batch_size"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(
                    f"Calibration.{name}: expected a whole number from 1 or null, found {value!r}"
                )


def network_size(value: Any, key: str) -> tuple[int, int]:
    """Height and width of the network's input, from one number or two.

    Raises: `ConfigError` naming the key when the network cannot have that input.
    """
    pair = [value, value] if isinstance(value, int) else value
    try:
        height, width = (int(side) for side in pair)
    except (TypeError, ValueError):
        raise ConfigError(f"{key}: expected [height, width], found {value!r}") from None
    for side in (height, width):
        if side < 64 or side % 32:
            raise ConfigError(
                f"{key}: {side} is not a multiple of 32 from 64 (the network halves its input "
                f"6 times); the nearest is {max(64, round(side / 32) * 32)}"
            )
    return height, width


@dataclass(frozen=True)
class TrainSection:
    """Section `Train`; `TrainSettings` has the meaning of each key and checks its value.

    Attributes:
        teacher: a larger detector that is learned from: a run folder, or a configuration (a path, a shipped name) with
            `teacher_weights`; None: none.
        teacher_weights: the file of a `teacher` that is a configuration.
        distillation: what is learned: one of `LD` (distributions of box distances), `KD` (class scores), `FGD` (feature
            maps), a list of them, or a mapping with their own keys; None: `[LD, KD]`.
    """

    reference_batch: Any = None
    accumulate_steps: Any = 1
    freeze_backbone: Any = False
    freeze_batch_norm: Any = False
    amp: Any = False
    early_stop: Any = None
    save_best: Any = "mAP"
    teacher: Any = None
    teacher_weights: Any = None
    distillation: Any = None

    def given(self) -> dict[str, Any]:
        """Key -> value of what `TrainSettings` has."""
        of_teacher = ("teacher", "teacher_weights", "distillation")
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in of_teacher
        }
