"""Settings of data sets and readers, as PaddleDetection's sections have them.

Importing this module is cheap: OpenCV comes in only when the transforms of a reader are built.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from picoquant.data.preparation import Preparation, preparation_of
from picoquant.data.reader_checks import require_as_it_is, require_one_size, require_order, require_schedule
from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.utils import setting_checks as checks
from picoquant.utils.suggest import is_typing_error, suggestion, unknown_key

LOG = logging.getLogger("picoquant")

_OF_SEVERAL = {
    "Mixup": "mixup_epoch",
    "Cutmix": "cutmix_epoch",
    "Mosaic": "mosaic_epoch",
}  # the first on works

FORMATS = {  # tag -> format
    "COCODataSet": "coco",
    "VOCDataSet": "voc",
    "YOLODataSet": "yolo",
    "LabelMeDataSet": "labelme",
    "ImageFolder": "folder",
}
_OTHER_TAGS = {"COCODetDataset": "coco", "VOCDetDataset": "voc"}  # PaddleX's

BOX_FORMATS = ("xywh", "xyxy", "cxcywh", "xywh_normalised", "xyxy_normalised", "cxcywh_normalised")
SPLITS = ("train", "val", "test")

# Keys of PaddleDetection's sections that say nothing to the readers here: workers always pass batches
# through memory of their own, objects are always padded, and the export reads `inputs_def` itself.
_UNUSED_READER_KEYS = ("use_shared_memory", "collate_batch", "inputs_def", "fuse_normalize")
_UNUSED_DATASET_KEYS = ("use_default_label", "repeat")


@dataclass(frozen=True)
class DatasetSettings:
    """Where a data set is and what of it to use.

    Attributes:
        format: `coco`, `voc`, `yolo`, `labelme` or `folder`, by the tags `!COCODataSet`, `!VOCDataSet`, `!YOLODataSet`,
            `!LabelMeDataSet` and `!ImageFolder` (PaddleX: `!COCODetDataset`), or by `type: yolo`. `type: auto` finds
            the format and the part for this section in `dataset_dir`.
        dataset_dir: its folder.
        image_dir: the images' folder, inside it or an absolute path; for yolo also a list of images, and where it is
            empty the part `split` of data.yaml.
        anno_path: inside it too; for coco the JSON file, for voc a list of images or the folder of XML files, for yolo
            data.yaml (found where empty), for labelme the folder of JSON files where they are not beside the images,
            for folder a file of labels or None.
        label_list: class names of voc, yolo or labelme, one a line.
        classes: these names here, in their order.
        split: yolo's part: `train`, `val` or `test`; None: `train` for TrainDataset, `val` for the others.
        data_fields: accepted; the fields follow from what is done.
        allow_empty: whether images without objects are kept; None: not for training, for evaluation yes.
        empty_ratio: part of all images that the empty ones may be; 1: no limit.
        sample_num: use that many images; -1: all.
        load_crowd: accepted as false only: crowds are no targets of training.
        box_format: how the four numbers of a box are meant: `xywh` (x, y, width, height), `xyxy` (two corners),
            `cxcywh` (centre first), all in pixels, or `xywh_normalised`, `xyxy_normalised`, `cxcywh_normalised`,
            parts of the image. None: as the format has them (coco xywh, voc and labelme xyxy, yolo cxcywh_normalised),
            and a file that does not look so is refused.
        section: the name of the section, for messages.
    """

    format: str = "coco"
    dataset_dir: str = ""
    image_dir: str = ""
    anno_path: str | None = None
    label_list: str | None = None
    classes: tuple[str, ...] | None = None
    split: str | None = None
    data_fields: tuple[str, ...] = ("image",)
    allow_empty: bool | None = None
    empty_ratio: float = 1.0
    sample_num: int = -1
    load_crowd: bool = False
    box_format: str | None = None
    section: str = "TrainDataset"

    def __post_init__(self) -> None:
        where = self.section
        checks.choice(f"{where}: format", self.format, tuple(dict.fromkeys(FORMATS.values())))
        for name in ("dataset_dir", "image_dir", "anno_path", "label_list"):
            value = getattr(self, name)
            if value is None and name in ("dataset_dir", "image_dir"):
                object.__setattr__(self, name, "")
            elif value is not None and not isinstance(value, (str, Path)):
                raise ConfigError(f"{where}.{name} must be a path, not {value!r}")
        if self.format in ("coco", "voc") and not self.anno_path:
            raise ConfigError(f"{where}.anno_path is missing; it names the annotation file")
        if self.classes is not None:
            object.__setattr__(self, "classes", _names(self.classes, f"{where}.classes"))
        if self.split is not None:
            checks.choice(f"{where}.split", self.split, SPLITS)
        if self.allow_empty is not None:
            checks.flag(f"{where}.allow_empty", self.allow_empty)
        checks.number(f"{where}.empty_ratio", self.empty_ratio)
        checks.whole(f"{where}.sample_num", self.sample_num, -1)
        if checks.flag(f"{where}.load_crowd", self.load_crowd):
            raise ConfigError(
                f"{where}.load_crowd: true is not supported; crowds are no targets; {NOT_SUPPORTED}"
            )
        if self.box_format is not None:
            checks.choice(f"{where}.box_format", self.box_format, BOX_FORMATS)
        object.__setattr__(self, "data_fields", tuple(self.data_fields))

    @property
    def root(self) -> Path:
        """The data set's folder; a relative one is relative to the working directory."""
        return Path(self.dataset_dir).expanduser()

    @property
    def image_folder(self) -> Path:
        """The folder that image names are relative to."""
        return self.root / Path(self.image_dir).expanduser()

    @property
    def annotation_file(self) -> Path:
        """The annotation file (or, for a folder, its labels)."""
        return self.root / Path(self.anno_path or "").expanduser()

    @property
    def label_file(self) -> Path | None:
        """The file of class names, if one is set."""
        return None if self.label_list is None else self.root / Path(self.label_list).expanduser()

    @classmethod
    def from_mapping(cls, tag: str, values: Mapping[str, Any], section: str) -> DatasetSettings:
        """Settings of `section: !tag {values}` in PaddleDetection's YAML.

        Raises: `ConfigError` naming the tag or key that is not known.
        """
        kinds = {**FORMATS, **_OTHER_TAGS, **{name: name for name in FORMATS.values()}}
        if tag not in kinds:
            raise ConfigError(
                f"{section}: unknown data set !{tag}{suggestion(tag, kinds)}; "
                f"known: {', '.join('!' + name for name in FORMATS)}"
            )
        known = [entry.name for entry in fields(cls) if entry.name not in ("format", "section")]
        for key in values:
            if key not in known and key not in _UNUSED_DATASET_KEYS:
                raise unknown_key(section, str(key), known)
        if values.get("repeat") not in (None, 1):
            LOG.warning("%s.repeat: accepted, but without effect here; for repeat use more epochs", section)
        taken = {key: value for key, value in values.items() if key in known}
        return cls(format=kinds[tag], section=section, **taken)


def _names(value: Any, where: str) -> tuple[str, ...]:
    if (
        not isinstance(value, (list, tuple))
        or not value
        or not all(isinstance(name, (str, int)) for name in value)
    ):
        raise ConfigError(f"{where}: expected a list of names, found {value!r}")
    names = tuple(str(name).strip() for name in value)
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"{where}: a name is empty or there twice in {value!r}")
    return names


@dataclass(frozen=True)
class TransformSpec:
    """One entry of sample_transforms or batch_transforms: `- name: {params}`."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    def __reduce__(self) -> tuple:
        return TransformSpec, (self.name, dict(self.params))

    def replace(self, **params: Any) -> TransformSpec:
        """The same transform with some parameters changed."""
        return TransformSpec(self.name, {**self.params, **params})

    @classmethod
    def of(cls, entry: Any, where: str) -> TransformSpec:
        """From YAML's `{name: {params}}`, or from a bare name."""
        if isinstance(entry, str):
            return cls(entry)
        if isinstance(entry, Mapping) and len(entry) == 1:
            ((name, params),) = entry.items()
            if isinstance(name, str) and (params is None or isinstance(params, Mapping)):
                return cls(name, params or {})
        raise ConfigError(f"{where}: every entry is `Name: {{parameters}}`, not {entry!r}")


def _tell_other_scale(spec: TransformSpec, where: str) -> None:
    """Say where a mean is of other values than it is subtracted from: of 0 to 255 from 0 to 1, or the other way."""
    mean, scaled = spec.params.get("mean"), spec.params.get("is_scale", True)
    if spec.name != "NormalizeImage" or not mean or not isinstance(mean, (list, tuple)):
        return
    if spec.params.get("norm_type") == "none" or not all(isinstance(value, (int, float)) for value in mean):
        return
    largest = max(mean)
    if (scaled is True and largest > 1) or (scaled is False and 0 < largest <= 1):
        has, wants = ("0 to 1", "0 to 255") if scaled else ("0 to 255", "0 to 1")
        LOG.warning(
            "%s.NormalizeImage: is_scale is %s, so that pixels are %s, and the mean %s is of values of %s; set "
            "is_scale to %s unless the weights were trained so",
            where,
            str(scaled).lower(),
            has,
            list(mean),
            wants,
            str(not scaled).lower(),
        )


@dataclass(frozen=True)
class ReaderSettings:
    """How images become batches.

    The transforms are checked when the settings are made.

    Attributes:
        sample_transforms: what is done with each image, in order; the first is `Decode`.
        batch_transforms: what is done with the images of a batch.
        batch_size: images of a batch, on each device.
        shuffle: another order each epoch; true for training where the file does not say.
        drop_last: leave out a last batch that is not full; true for training where the file does not say.
        mosaic_epoch: `Mosaic` works in epochs before this one; 0: in all; -1: in none.
        mixup_epoch, cutmix_epoch: the same for `Mixup` and `Cutmix`. As in PaddleDetection one of the three works in
            an epoch: Mixup before Cutmix before Mosaic.
        transform_schedulers: `[{Name: {start_epoch, stop_epoch}}]`: a transform works from the one epoch to before the
            other.
        section: the name of the section, for messages.
    """

    sample_transforms: tuple[TransformSpec, ...]
    batch_transforms: tuple[TransformSpec, ...] = ()
    batch_size: int = 1
    shuffle: bool = False
    drop_last: bool = False
    mosaic_epoch: int = -1
    mixup_epoch: int = field(default=-1, repr=False)  # `by_epoch` is for fingerprints
    cutmix_epoch: int = field(default=-1, repr=False)
    transform_schedulers: Any = field(default=(), repr=False)
    section: str = "TrainReader"

    def __post_init__(self) -> None:
        where = self.section
        object.__setattr__(self, "sample_transforms", tuple(self.sample_transforms))
        object.__setattr__(self, "batch_transforms", tuple(self.batch_transforms))
        checks.whole(f"{where}.batch_size", self.batch_size, 1)
        checks.flag(f"{where}.shuffle", self.shuffle)
        checks.flag(f"{where}.drop_last", self.drop_last)
        for key in _OF_SEVERAL.values():
            checks.whole(f"{where}.{key}", getattr(self, key), -1)
        names = [spec.name for spec in self.sample_transforms]
        if not names or names[0] != "Decode" or names.count("Decode") > 1:
            raise ConfigError(f"{where}.sample_transforms must begin with one Decode")
        for name, key in _OF_SEVERAL.items():
            if names.count(name) > 1:
                raise ConfigError(f"{where}.sample_transforms: more than one {name}")
            if name != "Mosaic" and getattr(self, key) != -1 and name not in names:
                raise ConfigError(
                    f"{where}.{key} is {getattr(self, key)}, but sample_transforms has no {name}"
                )
        _ = self.schedule
        self.build()
        require_order(self.sample_transforms, f"{where}.sample_transforms")
        if where != "TrainReader":
            require_as_it_is(names + [spec.name for spec in self.batch_transforms], where)
            _ = self.preparation
        else:
            require_one_size(self)

    @property
    def preparation(self) -> Preparation | None:
        """How an evaluation reader makes the network's input; None where it does not resize."""
        return preparation_of((*self.sample_transforms, *self.batch_transforms), self.section)

    @property
    def schedule(self) -> tuple[tuple[str, int, int | None], ...]:
        """Of each entry of `transform_schedulers` name, first epoch and the one it ends before (None: it does not)."""
        names = [spec.name for spec in (*self.sample_transforms, *self.batch_transforms)]
        return require_schedule(self.transform_schedulers, names, f"{self.section}.transform_schedulers")

    @property
    def by_epoch(self) -> dict[str, Any]:
        """What else depends on the epoch, where it does: for fingerprints, as `repr` does not have it."""
        both = {"mixup_epoch": self.mixup_epoch, "cutmix_epoch": self.cutmix_epoch}
        found = {key: epoch for key, epoch in both.items() if epoch != -1}
        return {**found, **({"schedule": list(self.schedule)} if self.schedule else {})}

    def working(self, epoch: int) -> str | None:
        """Which of `Mosaic`, `Mixup` and `Cutmix` works in an epoch (from 0): the first that is on."""
        for name, key in _OF_SEVERAL.items():
            until = getattr(self, key)
            if until == 0 or epoch < until:
                return name
        return None

    @property
    def idle(self) -> list[str]:
        """Those of `Mosaic`, `Mixup` and `Cutmix` among the transforms that work in no epoch, as keys with values."""
        names = [spec.name for spec in self.sample_transforms]
        found, until = [], 0.0  # until which epoch one before them is on
        for name, key in _OF_SEVERAL.items():
            own = getattr(self, key)
            ends = math.inf if own == 0 else own
            if name in names and ends <= until:
                found.append(f"{key} {own}")
            until = max(until, ends)
        return found

    def build(self) -> tuple[list[Any], list[Any]]:
        """The transforms of samples and those of batches, ready to be called."""
        from picoquant.data.transforms import build_transform, fitted

        samples, batches = (
            [build_transform(spec.name, spec.params, f"{self.section}.{kind}", batch) for spec in specs]
            for kind, specs, batch in (
                ("sample_transforms", self.sample_transforms, False),
                ("batch_transforms", self.batch_transforms, True),
            )
        )
        made = self.preparation if self.section != "TrainReader" else None
        return fitted(samples, batches, made) if made is not None and made.keep_ratio else (samples, batches)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], section: str) -> ReaderSettings:
        """Settings of `section: {values}` in PaddleDetection's YAML.

        A key that is like none of the known ones is ignored, with a warning.

        Raises: `ConfigError` naming a typing error, or a transform or parameter that is not known.
        """
        training = section == "TrainReader"
        taken: dict[str, Any] = {"shuffle": training, "drop_last": training}
        known, ignored = [entry.name for entry in fields(cls) if entry.name != "section"], []
        for key, value in values.items():
            if key in known:
                taken[key] = value
            elif key not in _UNUSED_READER_KEYS:
                every = [*known, *_UNUSED_READER_KEYS]
                if is_typing_error(str(key), every):
                    raise unknown_key(section, str(key), every)
                ignored.append(str(key))  # as PaddleDetection's readers ignore bufsize or num_workers
        if ignored:
            LOG.warning(
                "%s: %s: no key of picoquant or PaddleDetection, ignored", section, ", ".join(ignored)
            )
        for key in ("sample_transforms", "batch_transforms"):
            where, entries = f"{section}.{key}", taken.get(key) or []
            if not isinstance(entries, (list, tuple)):
                raise ConfigError(f"{where} must be a list, not {entries!r}")
            taken[key] = tuple(TransformSpec.of(entry, where) for entry in entries)
            for spec in taken[key]:
                _tell_other_scale(spec, where)
        for name, epoch in _OF_SEVERAL.items():
            if epoch not in taken and any(spec.name == name for spec in taken["sample_transforms"]):
                LOG.warning(
                    "%s: %s is never done, as in PaddleDetection: %s says before which epoch it is (0: in all)",
                    section,
                    name,
                    epoch,
                )
        return cls(section=section, **taken)
