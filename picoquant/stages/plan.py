"""What a recipe asks for, as settings: the one place where a stage or a command finds any of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from picoquant.config import data, training
from picoquant.config.detector import parse_detector
from picoquant.config.distillation import TeacherSettings, teacher_settings
from picoquant.config.recipe import Recipe, load_recipe
from picoquant.config.sections import CalibrationSettings, GlobalSettings, PackageSettings, SyntheticSettings
from picoquant.config.target_rules import quant_aware_for_targets, require_int8_where_needed
from picoquant.data.formats.folder import DataFolder
from picoquant.data.settings import DatasetSettings, ReaderSettings
from picoquant.detector.settings import DetectorSettings
from picoquant.errors import ConfigError
from picoquant.evaluation.coco_metrics import METRICS
from picoquant.evaluation.voc_metrics import VOC_METRICS
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.postprocess.settings import NmsSettings
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings
from picoquant.quantization.paddleslim.require import require_paddleslim, require_settings
from picoquant.quantization.settings import (
    DistillationSettings,
    QatTrainSettings,
    QuantizationSettings,
    check_together,
)
from picoquant.targets.profiles import Target, load_targets
from picoquant.training.distillation.settings import check_pair
from picoquant.training.scalar_log import ScalarSettings
from picoquant.training.settings import TrainSettings
from picoquant.utils.suggest import suggestion

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class QuantizationPlan:
    """The sections of quantisation, each as settings.

    Attributes:
        distillation: section `Distillation`.
        quant_aware: section `QuantAware`; what it leaves open is the targets'.
        train: section `TrainConfig`.
        own: section `Quantize`.
    """

    distillation: DistillationSettings
    quant_aware: QuantAwareSettings
    train: QatTrainSettings
    own: QuantizationSettings


@dataclass(frozen=True)
class Plan:
    """A recipe's sections as settings, made once for all stages and commands of a process.

    A section is parsed when it is first used, for not every recipe has all of them, and kept. Every attribute
    raises `ConfigError`, naming section and key, for what its section must not say.

    Attributes:
        recipe: as it was read.
    """

    recipe: Recipe

    @property
    def document(self) -> Mapping[str, Any]:
        """The recipe as it is used, to be written into a run folder and read again."""
        return data.as_used(self.recipe)

    @property
    def names_model(self) -> bool:
        """Whether this command itself names an exported model, which then stands in place of a run's models.

        A `model_dir` of the recipe alone is the FP32 model of the run, which may have an INT8 model of it, too.
        """
        return bool(self.common.model_dir) and "Global.model_dir" in self.recipe.named

    @property
    def names_weights(self) -> bool:
        """Whether this command itself names trained weights, which then stand in place of a run's."""
        return bool(self.common.weights) and "Global.weights" in self.recipe.named

    @property
    def common(self) -> GlobalSettings:
        """Section `Global`."""
        return self.recipe.common

    @cached_property
    def detector(self) -> DetectorSettings:
        """The network, for the number of classes that the configuration says."""
        return parse_detector(self.recipe.document)

    def detector_for(self, num_classes: int) -> DetectorSettings:
        """The network for a data set's number of classes."""
        return replace(self.detector, num_classes=num_classes)

    @property
    def nms(self) -> NmsSettings:
        """The suppression behind the network."""
        return self.detector.nms

    @property
    def num_classes(self) -> int | None:
        """What the configuration says; the annotations win."""
        return self.recipe.document.get("num_classes")

    @property
    def voc(self) -> bool:
        """Whether VOC's mAP is counted beside COCO's: `metric: VOC`."""
        return training.counts_voc(self.recipe)

    @property
    def pretrain_weights(self) -> Any:
        """`pretrain_weights`: a path, the name of a shipped file, an address, or nothing to start from scratch."""
        return self.recipe.document.get("pretrain_weights")

    @cached_property
    def synthetic(self) -> SyntheticSettings | None:
        """Section `Synthetic`; None where the data sets are on disk."""
        if self.recipe.document.get("Synthetic") is None:
            return None
        return self.recipe.section("Synthetic", SyntheticSettings)

    @cached_property
    def _folders(self) -> dict[str, DataFolder]:
        """Folders of data sets that were recognised, each once for all sections."""
        return {}

    @cached_property
    def train_dataset(self) -> DatasetSettings:
        """Section `TrainDataset`."""
        return data.dataset_settings(self.recipe, "TrainDataset", self._folders)

    @cached_property
    def eval_dataset(self) -> DatasetSettings:
        """Section `EvalDataset`."""
        return data.dataset_settings(self.recipe, "EvalDataset", self._folders)

    @cached_property
    def train_reader(self) -> ReaderSettings:
        """Section `TrainReader`, at the network's input size."""
        return data.reader_settings(self.recipe, "TrainReader")

    @cached_property
    def eval_reader(self) -> ReaderSettings:
        """Section `EvalReader`, at the network's input size."""
        return data.reader_settings(self.recipe, "EvalReader")

    def eval_reader_of(self, config: InferConfig) -> ReaderSettings:
        """Section `EvalReader` with an exported model's own preprocessing.

        Args:
            config: the model's `infer_cfg.yml`.
        """
        said = data.tell_other_preparation(self.recipe, self.eval_reader, config)
        if said and said not in self._said:
            LOG.warning("%s; export again for these", said)
            self._said.add(said)
        return data.with_model_preprocessing(self.eval_reader, config)

    @cached_property
    def _said(self) -> set[str]:
        """Warnings that were given, each once."""
        return set()

    @cached_property
    def workers(self) -> int:
        """Processes or threads that read images; at most the machine's cores."""
        return data.workers(self.recipe)

    @cached_property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input: `Global.input_size`, or what EvalReader resizes to."""
        return self.common.input_size or data.resized_to(self.eval_reader)

    @cached_property
    def export_size(self) -> tuple[tuple[int, int], str]:
        """Height and width of an exported network's input, and one line that says which of several sizes it is.

        `Global.input_size`, or `TestReader.inputs_def.image_shape`, or what EvalReader resizes to.
        """
        return data.export_size(self.recipe, self.eval_reader)

    @cached_property
    def preprocessing(self) -> Mapping[str, Any]:
        """How EvalReader makes an exported network's input, as fields of `InferConfig`."""
        data.tell_other_test_reader(self.recipe, self.eval_reader)
        return data.preprocessing(self.eval_reader, self.export_size[0])

    def infer_config(self, labels: Sequence[str], arch: str = "PicoDet") -> InferConfig:
        """What an export of the network says about itself.

        Args:
            labels: names of the classes.
            arch: `GFL` where decoding and suppression are inside the export.
        """
        strides = tuple(self.detector.head.fpn_stride)
        return InferConfig(
            labels=tuple(labels), strides=strides, nms=self.nms, arch=arch, **self.preprocessing
        )

    @property
    def export_kind(self) -> str:
        """`raw`, `boxes` or `detections`, from the keys of section `export`."""
        section = self.recipe.document["export"]
        if not section.get("post_process") or section.get("benchmark"):
            return "raw"
        return "detections" if section.get("nms") else "boxes"

    @cached_property
    def training(self) -> TrainSettings:
        """Keys `epoch`, `LearningRate`, `OptimizerBuilder` … and section `Train`."""
        found = training.train_settings(self.recipe)
        numbers = (*METRICS, *(VOC_METRICS if self.voc else ()))
        if found.save_best not in numbers:
            raise ConfigError(
                f"Train.save_best: {found.save_best!r} is no number of an evaluation"
                f"{suggestion(str(found.save_best), numbers)}; it can be {', '.join(METRICS)}, and with metric: VOC "
                f"{' or '.join(VOC_METRICS)}"
            )
        return found

    @cached_property
    def teacher(self) -> TeacherSettings | None:
        """The larger detector that training learns from, by keys of section `Train`; None for none."""
        found = teacher_settings(self.recipe, partial(parse_detector, num_classes=1))
        if found is not None:
            check_pair(self.detector, found.detector, found.what)
        return found

    def teachers_images(self, teacher: TeacherSettings) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and shift of R, G and B that make the teacher's input of the student's."""
        if teacher.reader is None:
            return (1.0,) * 3, (0.0,) * 3
        return data.between_normalisations(self.train_reader, teacher.reader)

    @cached_property
    def unstructured_pruner(self) -> UnstructuredPrunerSettings | None:
        """Section `UnstructuredPruner`; None where no weights become 0."""
        return training.unstructured_pruner(self.recipe)

    @cached_property
    def pruner(self) -> PrunerSettings | None:
        """Section `Pruner`; None where no filters are removed."""
        return training.pruner(self.recipe)

    @cached_property
    def published_rate(self) -> tuple[float, int] | None:
        """`base_lr` and batch size of the published configuration of the same name or network, if any."""
        return training.published_rate(self.recipe, partial(parse_detector, num_classes=1))

    def scalars(self, folder: Path) -> ScalarSettings:
        """Logs of the metrics beside the CSV files; those of viewers are in `folder` by default."""
        return training.scalar_settings(self.recipe, folder)

    @property
    def calibration(self) -> CalibrationSettings:
        """Section `Calibration`: which images drive quantisation."""
        return self.recipe.calibration

    @property
    def package(self) -> PackageSettings:
        """Section `Package`: for which boards, and how many images a call."""
        return self.recipe.package

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The NPUs of `Package.target`; `all` is every shipped one.

        Raises: `ConfigError` for an unknown target, listing the known ones.
        """
        return tuple(load_targets(self.recipe.targets))

    def targets_named(self, names: Iterable[str]) -> list[Target]:
        """Targets named elsewhere than in the recipe, for example by an option.

        Raises: as `targets`.
        """
        return load_targets(map(self.recipe.target_file, names))

    @property
    def quant_aware_section(self) -> Mapping[str, Any]:
        """Section `QuantAware` as it is written, without the targets' values."""
        return self.recipe.document.get("QuantAware") or {}

    @cached_property
    def quant_aware(self) -> QuantAwareSettings:
        """Section `QuantAware`; keys that it does not have are the targets'."""
        given = self.recipe.section("QuantAware", QuantAwareSettings)
        learnt = self._own_quantization.learns_ranges
        return quant_aware_for_targets(given, self.quant_aware_section, self.targets, learnt)

    @cached_property
    def _own_quantization(self) -> QuantizationSettings:
        """Section `Quantize`."""
        return self.recipe.section("Quantize", QuantizationSettings)

    @cached_property
    def quantization(self) -> QuantizationPlan:
        """All sections of quantisation, checked together and against the targets."""
        quant_aware, own = self.quant_aware, self._own_quantization
        require_int8_where_needed(own, self.targets, self.common.Evaluation)
        check_together(quant_aware, own)
        if own.engine == "paddleslim":
            require_settings(own, quant_aware)
        return QuantizationPlan(
            distillation=self.recipe.section("Distillation", DistillationSettings),
            quant_aware=quant_aware,
            train=self.recipe.section("TrainConfig", QatTrainSettings),
            own=own,
        )

    def check(self) -> None:
        """Parse what a later stage needs, so that what is wrong is said before the first one."""
        if self.quantization.own.engine == "paddleslim":
            require_paddleslim()
        _ = (
            self.quantization,
            self.targets,
            self.calibration,
            self.package,
            self.unstructured_pruner,
            self.pruner,
        )


def load_plan(name: str, overrides: Sequence[str] = ()) -> Plan:
    """Read a recipe or a configuration, and everything it builds on.

    Args:
        name: a path, or the bare name of a shipped one.
        overrides: `KEY.SUB=VALUE` texts, applied in order; they win over the files.

    Raises: `ConfigError` naming file and key.
    """
    return Plan(load_recipe(name, overrides))
