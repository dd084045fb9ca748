"""The data sets of a run: those the recipe names, or a generated one in the run folder."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from picoquant.data.class_names import compare, in_training_order, match
from picoquant.data.dataset import Dataset
from picoquant.data.formats.coco_file import KeyPlaces, peek_categories
from picoquant.data.formats.load import class_names, files_of, load_dataset, load_folder
from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.data.inspection.faults import errors
from picoquant.data.inspection.statistics import NetworkInput
from picoquant.data.settings import DatasetSettings
from picoquant.data.subset import choose, listed
from picoquant.errors import DataError
from picoquant.stages.plan import Plan
from picoquant.stages.stage import Context
from picoquant.storage.files import sha256

LOG = logging.getLogger("picoquant")
T = TypeVar("T")


def settings_of(context: Context, section: str) -> DatasetSettings:
    """Settings of `TrainDataset` or `EvalDataset`; generates the synthetic data set when asked for."""
    plan = context.plan
    if plan.synthetic is None:
        return plan.train_dataset if section == "TrainDataset" else plan.eval_dataset
    if "Synthetic" not in context.loaded:
        wanted = SyntheticSet(seed=plan.common.seed, **asdict(plan.synthetic))
        made = write_synthetic(context.run.root / "dataset", wanted)
        context.loaded["Synthetic"] = dict(zip(("TrainDataset", "EvalDataset"), made))
    return context.loaded["Synthetic"][section]


def check(context: Context, section: str) -> None:
    """Find out cheaply whether a data set is there; reading it finds what else may be wrong.

    Raises: `DataError` naming the path that was looked for and the key that sets it.
    """
    settings = settings_of(context, section)
    for path, key in ((settings.annotation_file, "anno_path"), (settings.image_folder, "image_dir")):
        if not path.exists():
            raise DataError(
                f"no data set: {path} does not exist; --set {section}.dataset_dir=FOLDER (and {section}.{key}) "
                "says where it is; quickstart.yaml needs no data"
            )


def load(context: Context, section: str) -> Dataset:
    """The images of `TrainDataset` or `EvalDataset`, read once.

    The classes of both are in the order of `TrainDataset`, where that is there and has the same ones.

    Raises: `DataError` naming file, key and image.
    """
    if section not in context.loaded:
        training = section == "TrainDataset"
        dataset = load_dataset(settings_of(context, section), training)
        context.loaded[section] = dataset if training else _in_order_of_training(context, dataset)
    return context.loaded[section]


def require_usable(context: Context, sections: Sequence[str], trains: bool) -> None:
    """Read data sets and refuse them where their use would fail later, as `picoquant data check` says it.

    Args:
        context: the recipe; what is read is kept there.
        sections: `TrainDataset`, `EvalDataset`, or both.
        trains: whether a network is trained on them.

    Raises: `DataError` for the first that is wrong.
    """
    found = {section: load(context, section) for section in sections}
    network = network_input(context.plan) if trains else None
    for error in errors(found.get("TrainDataset"), found.get("EvalDataset"), network):
        raise error


def network_input(plan: Plan) -> NetworkInput:
    """What a recipe's images become before its network sees them."""
    height, width = plan.input_size
    strides = plan.detector.head.fpn_stride
    return NetworkInput(height, width, bool(plan.preprocessing.get("keep_ratio")), min(strides))


def _in_order_of_training(context: Context, dataset: Dataset) -> Dataset:
    """A data set with its classes in the order of `TrainDataset`, which weights are trained in."""
    if context.plan.synthetic is not None:
        return dataset
    if "TrainDataset" in context.loaded:
        names = context.loaded["TrainDataset"].class_names
    elif isinstance(context.plan.recipe.document.get("TrainDataset"), dict):
        names = None if _folder_gone(context) else class_names(settings_of(context, "TrainDataset"))
    else:
        names = None
    return dataset if names is None else in_training_order(dataset, names, context.plan.num_classes)


def _folder_gone(context: Context) -> bool:
    """Whether TrainDataset is a folder to be recognised that is not here: whoever only evaluates needs none."""
    section = context.plan.recipe.document["TrainDataset"]
    folder = Path(str(section.get("dataset_dir") or "")).expanduser()
    return section.get("type") == "auto" and not folder.exists()


def for_model(context: Context, dataset: Dataset, labels: Sequence[str], model: str) -> Dataset:
    """A data set with its classes in the order of a model's, matched by name; says in one line what differs.

    Args:
        context: the recipe; what was said for it is not said again.
        dataset: what the model is used on.
        labels: the model's class names.
        model: what messages call it.

    Raises: `DataError` when the two have no name in common.
    """
    matched, said = match(dataset, labels, model)
    _say_once(context, said)
    return matched


def compare_classes(context: Context, labels: Sequence[str], model: str) -> None:
    """Say in one line how a model's classes differ from those of `EvalDataset`, where that is there.

    For work that needs the names only; see `for_model`.

    Raises: `DataError` when the two have no name in common.
    """
    if context.plan.synthetic is not None:
        from picoquant.data.formats.shapes import CLASS_NAMES

        names, file = CLASS_NAMES, "the generated data set"
    elif isinstance(context.plan.recipe.document.get("EvalDataset"), dict):
        settings = settings_of(context, "EvalDataset")
        names, file = class_names(settings), str(settings.annotation_file)
    else:
        names = None
    if names is not None:
        _say_once(context, compare(labels, model, names, file))


def _say_once(context: Context, said: str) -> None:
    if said and said not in context.loaded:
        context.loaded[said] = True
        LOG.warning("%s", said)


def identity(context: Context, section: str) -> dict[str, Any]:
    """What a data set is, for a fingerprint: its annotations' hash, its images' names and sizes."""
    return identities(context, section)[0]


def identities(context: Context, *sections: str) -> list[dict[str, Any]]:
    """`identity` of several data sets at a time; a folder that several have their images in is listed once."""
    folders: dict[Path, str] = {}
    return [_identity(context, section, folders) for section in sections]


def _identity(context: Context, section: str, folders: dict[Path, str]) -> dict[str, Any]:
    settings = settings_of(context, section)
    described: dict[str, Any] = {"format": settings.format, "sample_num": settings.sample_num}
    if settings.box_format is not None:
        described["box_format"] = settings.box_format
    with ThreadPoolExecutor(1) as beside:  # hashing lets others compute
        if settings.annotation_file.is_file():
            digest = beside.submit(_digest_of, context, settings.annotation_file)
        if settings.format == "coco":
            folder = settings.image_folder
            if folder not in folders:
                folders[folder] = _names_and_sizes(folder)
            described["images"] = folders[folder]
        if settings.annotation_file.is_file():
            described["annotations"] = digest.result()
    if settings.format == "coco":
        described.update(_root_left_out(context, settings.annotation_file))
    if settings.format == "coco":
        return described
    if settings.classes is not None:
        described["classes"] = list(settings.classes)
    try:
        files, images = files_of(settings)
    except DataError:  # whoever reads the data set says so
        files, images = [], []
    root = settings.root
    described["files"] = _digest([(os.path.relpath(path, root), sha256(path)) for path in files])
    sizes = [(os.path.relpath(path, root), os.path.getsize(path)) for path in images if path.is_file()]
    described["images"] = _digest(sizes)
    return described


def _once(context: Context, look: Callable[[Path], T], path: Path) -> T:
    """What `look` finds in a large file; looked at again in a command where the file has changed.

    By the time of the file's last change of any kind, which unlike its date nobody can set.
    """
    state = path.stat() if path.exists() else None
    key = f"{look.__name__} of {path} {state and (state.st_ctime_ns, state.st_size, state.st_ino)}"
    if key not in context.loaded:
        context.loaded[key] = look(path)
    return context.loaded[key]


def _digest_of(context: Context, path: Path) -> str:
    return _once(context, _digest_and_keys, path)[0]


def _digest_and_keys(path: Path) -> tuple[str, list[int]]:
    """A file's hash, and where in it its categories may be, read once for both."""
    keys = KeyPlaces()
    return sha256(path, keys.see), keys.places


def categories_of(context: Context, path: Path) -> list[tuple[Any, str]]:
    """Ids and names of the classes of a COCO file, in its order; empty where that is not sure."""
    every = _every_category(context, path)
    if not every or every[0][0] != 0:  # a category above all others has the id 0
        return every
    return _once(context, _classes_alone, path)


def _every_category(context: Context, path: Path) -> list[tuple[Any, str]]:
    if not path.is_file():
        return []
    return peek_categories(path, with_root=True, places=_once(context, _digest_and_keys, path)[1]) or []


def _classes_alone(path: Path) -> list[tuple[Any, str]]:
    return peek_categories(path) or []


def _root_left_out(context: Context, path: Path) -> dict[str, Any]:
    """The classes, where a category above all others is none of them: it once was."""
    classes = categories_of(context, path)
    return {} if classes == _every_category(context, path) else {"classes": [name for _, name in classes]}


def _names_and_sizes(folder: Path) -> str:
    if not folder.is_dir():
        return hashlib.sha256().hexdigest()
    return _digest(sorted((e.name, e.stat().st_size) for e in os.scandir(folder) if e.is_file()))


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()


def calibration_section(context: Context) -> str:
    """Which data set the section Calibration takes its images from."""
    return "TrainDataset" if context.plan.calibration.images == "train" else "EvalDataset"


def calibration_identity(context: Context) -> dict[str, Any]:
    """Which images calibrate, for a fingerprint; with the list that names them, where there is one."""
    described = asdict(context.plan.calibration)
    if described["files"] and Path(described["files"]).is_file():
        described["files"] = sha256(Path(described["files"]))
    return described


def calibration_images(context: Context) -> Dataset:
    """The data set's images that the section Calibration chooses.

    Raises: `DataError` when there are fewer than it asks for, or its list names one that is not there.
    """
    wanted = context.plan.calibration
    dataset = load(context, calibration_section(context))
    if wanted.files:
        dataset = listed(dataset, Path(wanted.files).expanduser())
    return choose(dataset, wanted.count, wanted.choose, wanted.seed)


def unlabelled(folder: str, labels: Sequence[str]) -> Dataset:
    """All images in a folder and those below it, without objects, with the classes of a model.

    Args:
        folder: its path.
        labels: class names, in the model's order.

    Raises: `DataError` when the folder is missing or holds no image.
    """
    place = Path(folder).expanduser()
    found = load_folder(DatasetSettings(format="folder", image_dir=str(place), section="--fidelity"))
    return replace(found, class_names=tuple(labels), category_ids=tuple(range(1, len(labels) + 1)))


def warn_of_overlap(calibration: Dataset, held_out: Dataset) -> None:
    """Say so when images that are evaluated on are calibrated or trained on, too."""
    evaluated = set(_real_paths(held_out.paths))
    both = [
        path for path, real in zip(calibration.paths, _real_paths(calibration.paths)) if real in evaluated
    ]
    if both:
        LOG.warning(
            "quantize: %d of the %d images of Calibration are evaluated on too (%s …): the INT8 model's mAP says "
            "nothing about other images; Calibration.images and the annotation files say which are used",
            len(both),
            len(calibration),
            os.path.basename(both[0]),
        )


def _real_paths(paths: Iterable[str]) -> Iterator[str]:
    """`os.path.realpath` of files, with each folder looked at once."""
    folders: dict[str, str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.join(folders[folder], name)
        yield os.path.realpath(real) if os.path.islink(real) else real


def first(dataset: Dataset, count: int | None) -> Dataset:
    """The data set's first `count` images; None: all."""
    return dataset if count is None else replace(dataset, records=dataset.records[:count])
