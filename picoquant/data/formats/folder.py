"""Recognise a data set by what its folder holds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from picoquant.data.dataset import Dataset
from picoquant.data.formats.coco_file import coco_file_names, is_coco
from picoquant.data.formats.files import files_below, find_files
from picoquant.data.formats.labelme import is_labelme
from picoquant.data.formats.labelme import label_names as labelme_names
from picoquant.data.formats.load import class_names, load_dataset
from picoquant.data.formats.voc.load import VOC_CLASSES
from picoquant.data.formats.voc.load import label_names as voc_names
from picoquant.data.formats.yolo.description import Description, describe
from picoquant.data.formats.yolo.layout import PART_NAMES, part_files, part_names, part_sources
from picoquant.data.settings import SPLITS, DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

LOOKED_FOR = (
    "YOLO (data.yaml; or obj.data, obj.names, classes.txt or _darknet.labels with label files), COCO "
    "(train/_annotations.coco.json, annotations/instances_train*.json, annotations/instance_train.json, or one COCO "
    "JSON), VOC (ImageSets/Main/*.txt or train_list.txt with Annotations/*.xml, or XML files in train/ and valid/), "
    "LabelMe (JSON files with shapes)"
)
_TITLES = {"yolo": "YOLO", "coco": "COCO", "voc": "VOC", "labelme": "LabelMe"}
_OTHER_COCO = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")  # of COCO's own files
_SAMPLE = 50  # names or files that are looked at
_NAMED = 10  # so many class names in one line
_LABEL_LISTS = ("label_list.txt", "labels.txt")


@dataclass(frozen=True)
class DataFolder:
    """A folder that holds a data set.

    Attributes:
        folder: which (or YOLO's data.yaml).
        format: `yolo`, `coco`, `voc` or `labelme`.
        by: the file or folder by which it was recognised.
        parts: `train`, `val`, `test`, those that are there, or `all` where it has none -> settings to load it by.
        class_names: in their order, the same for all parts.
    """

    folder: Path
    format: str
    by: str
    parts: Mapping[str, DatasetSettings]
    class_names: tuple[str, ...]

    def load(self, part: str, training: bool = False) -> Dataset:
        """Read a part.

        Args:
            part: a key of `parts`.
            training: see `load_dataset`.

        Raises: `DataError` naming file and what to do.
        """
        return load_dataset(self.parts[part], training)

    def part_for(self, section: str) -> str:
        """The part that a section reads: `train`, or `val` (`test` where there is no `val`).

        Raises: `DataError` when there is none.
        """
        wanted = ("train",) if section == "TrainDataset" else ("val", "test", "all")
        for part in wanted:
            if part in self.parts:
                return part
        raise DataError(
            f"{self.folder}: {_TITLES[self.format]} ({self.by}) without a part {wanted[0]}, only "
            f"{', '.join(self.parts)}; name images to train on, and others to evaluate on, in TrainDataset and "
            "EvalDataset"
        )

    def describe(self, parts: Iterable[str] | None = None) -> str:
        """One line: format, by what it was recognised, parts, classes."""
        names = ", ".join(self.class_names[:_NAMED]) + (", …" if len(self.class_names) > _NAMED else "")
        shown = ", ".join(self.parts if parts is None else parts)
        what = f"{self.folder} is {_TITLES[self.format]} ({self.by})"
        return f"{what}, part {shown}, {len(self.class_names)} classes: {names}"


def recognise(folder: str | Path) -> DataFolder:
    """Find out which data set a folder holds: its format, its parts, its classes. Nothing is loaded yet.

    Args:
        folder: the data set's folder, or the data.yaml of a YOLO one.

    Raises: `DataError` when it holds none that is known, or may be one of several; both say what is looked for.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise DataError(
            f"no folder {root}: --data, or dataset_dir with type auto, names the folder of a data set"
        )
    found = _all_that_fit(root)
    if [each.format for each in found] == ["coco", "voc"]:  # the former is usually made of the latter
        LOG.info("%s holds VOC (%s), too: COCO (%s) is read", root, found[1].by, found[0].by)
        found = found[:1]
    if len(found) > 1:
        what = " and ".join(f"{_TITLES[each.format]} ({each.by})" for each in found)
        raise DataError(
            f"{root} holds {what}: say which by type, dataset_dir and anno_path of TrainDataset and EvalDataset, or "
            f"give a folder with one of them; looked for {LOOKED_FOR}"
        )
    if not found:
        inside = (
            [path for path in sorted(root.glob("*")) if path.is_dir() and _all_that_fit(path)]
            if root.is_dir()
            else []
        )
        hint = f"; but {inside[0]} holds one" if inside else ""
        raise DataError(f"{root} holds no data set that is known{hint}; looked for {LOOKED_FOR}")
    return found[0]


def settings_for(
    folder: str | Path, section: str, known: dict[str, DataFolder] | None = None
) -> DatasetSettings:
    """The settings by which a section reads its part of a folder; says in one line what was recognised.

    Args:
        folder: as for `recognise`.
        section: `TrainDataset`, `EvalDataset` or another that is evaluated on.
        known: folders that were recognised before, by their names; this one is added.

    Raises: as `recognise`, and when there is no such part.
    """
    known = {} if known is None else known
    found = known.setdefault(str(folder), known.get(str(folder)) or recognise(folder))
    part = found.part_for(section)
    LOG.info("%s: %s", section, found.describe([part]))
    return replace(found.parts[part], section=section)


def _all_that_fit(root: Path) -> list[DataFolder]:
    return [found for find in (_yolo, _coco, _voc, _labelme) if (found := find(root)) is not None]


def _part_of(name: str) -> str | None:
    """The part that a file's or folder's name says: `instances_val2017` is of `val`."""
    words = "".join(letter if letter.isalpha() else " " for letter in name.lower()).split()
    return next((part for part, names in PART_NAMES.items() if set(words) & set(names)), None)


def _part_folders(root: Path) -> dict[str, Path]:
    """Folders of parts below the root."""
    found: dict[str, Path] = {}
    for path in sorted(root.glob("*")):
        for part, names in PART_NAMES.items():
            if path.is_dir() and path.name.lower() in names:
                found.setdefault(part, path)
    return found


def _ordered(parts: Mapping[str, DatasetSettings]) -> dict[str, DatasetSettings]:
    return {part: parts[part] for part in (*SPLITS, "all") if part in parts}


def _yolo(root: Path) -> DataFolder | None:
    named = root if root.is_file() else None
    folder = root.parent if root.is_file() else root
    description = describe(folder, named)
    if description is None:
        return None
    strong = description.file.suffix in (".yaml", ".yml", ".data")
    names = part_names(folder, description)
    if not strong and not any(_has_labels(folder, description, part) for part in names):
        return None
    anno = str(description.file.relative_to(folder)) if description.file.suffix in (".yaml", ".yml") else None
    parts = {
        part: DatasetSettings(
            "yolo",
            str(folder),
            str(part_sources(folder, description, part)[0].resolve()) if part == "all" else "",
            anno,
            split=None if part == "all" else part,
            section=part,
        )
        for part in names
    }
    by = str(description.file.relative_to(folder))
    return DataFolder(root, "yolo", by, _ordered(parts), description.names)


def _has_labels(folder: Path, description: Description, part: str) -> bool:
    try:
        return any(part_files(folder, part_sources(folder, description, part), part).labels)
    except DataError:
        return False


def _coco(root: Path) -> DataFolder | None:
    if root.is_file():
        return None
    folders = [root, *(path for path in sorted(root.glob("*")) if path.name.lower() == "annotations")]
    files = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    files = [path for path in files if not path.name.startswith(_OTHER_COCO) and is_coco(path)]
    found: dict[str, list[Path]] = {}
    for part, folder in _part_folders(root).items():
        found[part] = [path for path in sorted(folder.glob("*.json")) if is_coco(path)]
    for path in files:
        found.setdefault(_part_of(path.stem) or "all", []).append(path)
    found = {part: _instances(paths) for part, paths in found.items() if paths}
    if len(found) > 1:
        found.pop("all", None)
    if not found:
        return None
    for part, paths in found.items():
        if len(paths) > 1:
            raise DataError(
                f"{root}: the part {part} may be {' or '.join(str(path.relative_to(root)) for path in paths)}: name "
                "one by anno_path of TrainDataset and EvalDataset"
            )
    parts = _ordered({part: _coco_part(root, part, paths[0]) for part, paths in found.items()})
    first = next(iter(parts.values()))
    return DataFolder(root, "coco", str(first.anno_path), parts, class_names(first) or ())


def _instances(paths: list[Path]) -> list[Path]:
    """Those called `instances_…`, where there are such."""
    return [path for path in paths if path.name.startswith("instance")] or paths


def _coco_part(root: Path, part: str, path: Path) -> DatasetSettings:
    """Settings with the image folder in which most of the first images are, else the file's own."""
    named = path.stem.removeprefix("instances_").removeprefix("instance_")
    own = [f"{above}{name}" for name in (named, *PART_NAMES.get(part, ())) for above in ("", "images/")]
    places = [path.parent, *(root / name for name in (*own, "images", "JPEGImages", "data", "."))]
    names = coco_file_names(path, _SAMPLE)
    best, most = path.parent, 0  # where they are in none the loader says so
    for place in dict.fromkeys(places):
        if place.is_dir():
            found = find_files(place, names)
            count = 2 * (len(names) - len(found.missing)) - len(found.renamed)  # as written is better
            if count > most:
                best, most = place, count
    return DatasetSettings(
        "coco", str(root), str(best.relative_to(root)), str(path.relative_to(root)), section=part
    )


def _voc(root: Path) -> DataFolder | None:
    if root.is_file():
        return None
    annotations = root / "Annotations"
    labels = next((name for name in _LABEL_LISTS if (root / name).is_file()), None)
    if annotations.is_dir() and files_below(annotations, (".xml",)):
        lists = _voc_lists(root)
        usual = (
            "JPEGImages" if (root / "JPEGImages").is_dir() else "images" if (root / "images").is_dir() else ""
        )
        parts = {
            part: DatasetSettings(
                "voc", str(root), "" if pairs else usual, str(path.relative_to(root)), labels, section=part
            )
            for part, (path, pairs) in lists.items()
        } or {"all": DatasetSettings("voc", str(root), usual, "Annotations", labels, section="all")}
        by = next(iter(parts.values())).anno_path if lists else "Annotations"
    else:
        folders = {part: path for part, path in _part_folders(root).items() if files_below(path, (".xml",))}
        if not folders and any(path.suffix.lower() == ".xml" for path in root.glob("*")):
            folders = {"all": root}
        parts = {}
        for part, path in folders.items():
            name = str(path.relative_to(root))
            parts[part] = DatasetSettings("voc", str(root), name, name, labels, section=part)
        by = "XML files"
    if not parts:
        return None
    parts = _ordered(parts)
    names = class_names(next(iter(parts.values())))
    if names is None:
        found = set().union(*map(voc_names, parts.values()))
        if annotations.is_dir():
            found |= voc_names(DatasetSettings("voc", str(root), "", "Annotations"))
        names = VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))
        parts = {part: replace(each, classes=names) for part, each in parts.items()}
    return DataFolder(root, "voc", str(by), parts, names)


def _voc_lists(root: Path) -> dict[str, tuple[Path, bool]]:
    """Part -> its list, and whether each line has image and XML file; `trainval` and `test` where that is all."""
    found: dict[str, Path] = {}
    for folder in (root, root / "ImageSets", root / "ImageSets" / "Main"):
        for name in ("train", "val", "valid", "test", "trainval"):
            for path in (folder / f"{name}.txt", folder / f"{name}_list.txt"):
                if path.is_file():
                    found.setdefault("val" if name == "valid" else name, path)
    both = found.pop("trainval", None)
    if both is not None and "train" not in found:
        found["train"] = both
    return {
        part: (path, ".xml" in path.read_text("utf-8", "replace")[:1000].lower())
        for part, path in found.items()
    }


def _labelme(root: Path) -> DataFolder | None:
    if root.is_file():
        return None
    folders = {part: path for part, path in _part_folders(root).items() if _holds_labelme(path)}
    if not folders and _holds_labelme(root):
        folders = {"all": root}
    if not folders:
        return None
    labels = next((name for name in _LABEL_LISTS if (root / name).is_file()), None)
    parts = _ordered(
        {
            part: DatasetSettings(
                "labelme", str(root), str(path.relative_to(root)), None, labels, section=part
            )
            for part, path in folders.items()
        }
    )
    names = class_names(next(iter(parts.values())))
    if names is None:
        names = tuple(sorted(set().union(*map(labelme_names, parts.values()))))
        parts = {part: replace(each, classes=names or None) for part, each in parts.items()}
    return DataFolder(root, "labelme", "JSON files with shapes", parts, names)


def _holds_labelme(folder: Path) -> bool:
    for number, path in enumerate(sorted(files_below(folder, (".json",)))):
        if number == _SAMPLE:
            break
        if is_labelme(Path(path)):
            return True
    return False
