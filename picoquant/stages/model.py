"""The detector of a recipe: built for the data set's classes, with the recipe's weights."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from picoquant.backends.paddle.compiled import compiled_teacher
from picoquant.data.dataset import Dataset
from picoquant.errors import UserError, WeightsError
from picoquant.pruning.record import read_shapes, record_of
from picoquant.stages.plan import Plan
from picoquant.stages.stage import Context
from picoquant.storage.download import fetched
from picoquant.storage.files import sha256
from picoquant.storage.run_folder import stage_record
from picoquant.training.distillation.settings import TeachingSettings
from picoquant.utils.device import available_cpus
from picoquant.weight_files.files import read_weights
from picoquant.yaml_files.locate import WEIGHTS, shipped_folder, shipped_weights

LOG = logging.getLogger("picoquant")

BEST_WEIGHTS = "best.pdparams"


def say_classes(plan: Plan, names: tuple[str, ...], where: str) -> int:
    """The number of classes: what the annotations have, whatever the configuration says."""
    configured, found = plan.num_classes, len(names)
    if configured is not None and configured != found:
        LOG.info("num_classes: %d, as %s has them (the configuration says %s)", found, where, configured)
    return found


def trained_weights(context: Context) -> Path:
    """The weights to export: `Global.weights`, or the best of the run's own training, or `Global.weights_elsewhere`.

    `Global.weights` may be an https address, as `pretrain_weights` may.

    Raises: `UserError` saying which command makes them.
    """
    named = context.plan.common.weights
    if named and "://" in named:
        return fetched(named, "Global.weights", context.plan.common.allow_http, check=read_weights)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise UserError(f"no weights at {path}; Global.weights names them")
        return path
    elsewhere = context.plan.common.weights_elsewhere
    if context.run is None and elsewhere:
        return Path(elsewhere).expanduser()
    if context.run is None:
        raise UserError("Global.weights names no weights; give --weights FILE or --model-dir DIR")
    path = context.run.folder("train") / BEST_WEIGHTS
    if not path.is_file() and elsewhere:
        LOG.info(
            "%s holds no trained weights, so those that the file names are taken: %s", path.parent, elsewhere
        )
        return Path(elsewhere).expanduser()
    if not path.is_file():
        raise UserError(
            f"no trained weights in {path.parent}; run `picoquant train` with the same --save-dir first, "
            "or set Global.weights"
        )
    return path


def trained_classes(context: Context, dataset: Dataset) -> tuple[str, ...]:
    """Names of the classes that `trained_weights` has, in the order of its outputs.

    They are what the run that trained the weights noted (older runs noted nothing, and numbered classes by their
    category ids); weights from elsewhere are taken to have the data set's.

    Raises: as `trained_weights`.
    """
    folder = trained_weights(context).parent
    record = stage_record(folder.parent, folder.name) if folder.name == "train" else {}
    if record.get("status") != "done":
        return dataset.class_names
    noted = record.get("metrics", {}).get("classes")
    if isinstance(noted, list):
        return tuple(map(str, noted))
    ids = zip(dataset.category_ids, dataset.class_names)
    return tuple(name for _, name in sorted(ids))


def load_trained(plan: Plan, num_classes: int, weights: Path) -> Any:
    """The detector in evaluation mode with `weights`.

    Class layers made for another number of classes are left as they are initialised, and the log says so.

    Raises: `WeightsError` for weights of another architecture.
    """
    from picoquant.detector.build import build_picodet
    from picoquant.detector.weights import load_weights

    model = build_picodet(plan.detector_for(num_classes))
    take_pruned_shapes(model, weights, plan.pruner is not None)
    report = load_weights(model, weights)
    LOG.info("%s: %d arrays loaded", weights, report.loaded)
    if report.skipped:
        LOG.warning(
            "%s: trained for another number of classes than %d; loaded without the class layers (%s), which "
            "are untrained: fine-tune with pretrain_weights before you trust a result",
            weights,
            num_classes,
            ", ".join(report.skipped),
        )
    model.eval()
    return model


def take_pruned_shapes(model: Any, weights: Path, by_file: bool = False) -> bool:
    """Make a network as small as the pruned one that a file holds the weights of.

    Args:
        model: a `PicoDet` as its settings say; changed in place.
        weights: the file; the record beside it says the shapes.
        by_file: without a record the shapes of the file itself are those of the network, as in files of PaddleDetection
            that were trained with section `Pruner`.

    Returns: whether anything was made smaller.

    Raises: `WeightsError` for shapes that do not fit together, or a damaged record.
    """
    from picoquant.detector.resizing import require_fitting, take_shapes

    shapes, source = read_shapes(weights), record_of(weights).name
    if shapes is None and by_file:
        shapes, source = (
            {name: value.shape for name, value in read_weights(weights).items()},
            "the file itself",
        )
    if shapes is None:
        return False
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    class_rows = {f"head.{name}" for name in model.head.class_rows()}
    wanted = {name: shape for name, shape in shapes.items() if name in own and name not in class_rows}
    # Layers that score classes have the data set's number of them, and the file's number of inputs.
    wanted |= {
        name: (own[name][0], *shapes[name][1:])
        for name in class_rows & shapes.keys()
        if len(shapes[name]) == len(own[name])
    }
    smaller = [name for name, shape in wanted.items() if shape != own[name]]
    if not smaller:
        return False
    try:
        if any(len(wanted[name]) != len(own[name]) for name in smaller):
            raise WeightsError("other numbers of axes")
        take_shapes(model, wanted)
        require_fitting(model)
    except WeightsError as error:
        raise WeightsError(
            f"{weights}: weights of another architecture, or not of a pruned network of this one: {error}. Use the "
            "configuration these weights were trained with"
        ) from error
    LOG.info("%s: of a pruned network, %d tensors are smaller (%s)", weights, len(smaller), source)
    return True


def start_weights(plan: Plan) -> Path | None:
    """The file of `pretrain_weights`: a path, the name of a shipped one, or an https address; None for none.

    An address, which is fetched once, may end in `#sha256=…`, which the file must then have.

    Raises: `UserError` when it is not there, or cannot be fetched.
    """
    named = plan.pretrain_weights
    if not named:
        return None
    if "://" in str(named):
        return fetched(str(named), "pretrain_weights", plan.common.allow_http, check=read_weights)
    path = _local_start(str(named))
    if path is None:
        raise UserError(f"no weights at {named}; pretrain_weights names them, null trains from scratch")
    return path


def teacher_weights(plan: Plan) -> Path | None:
    """The file of the teacher's weights, fetched once where it is an address; None without a teacher.

    Raises: `UserError` when it is not there, or cannot be fetched.
    """
    teacher = plan.teacher
    if teacher is None:
        return None
    if "://" in teacher.weights:
        return fetched(teacher.weights, teacher.key, plan.common.allow_http, check=read_weights)
    path = _local_start(teacher.weights)
    if path is None:
        raise UserError(f"no weights at {teacher.weights}; {teacher.key} names those of the teacher")
    return path


def teacher_inputs(plan: Plan) -> dict[str, Any]:
    """What a teacher adds to what decides the result of a training."""
    teacher = plan.teacher
    if teacher is None:
        return {}
    path = None if "://" in teacher.weights else teacher_weights(plan)
    return {
        "teacher": {
            "detector": asdict(teacher.detector),
            "weights": sha256(path) if path else teacher.weights,
            "learned": asdict(teacher.what),
            "images": plan.teachers_images(teacher),
        }
    }


def taught(plan: Plan, model: Any, class_names: tuple[str, ...], device: str) -> Any:
    """A network with its teacher's losses, for training; the network itself where there is no teacher.

    The teacher runs exported, in Paddle's inference runtime: nothing of it is trained, and its feature maps come out of
    there as well as its outputs.

    Raises: `UserError` for a teacher's weights that are of a backbone alone, or of other classes.
    """
    teacher, weights = plan.teacher, teacher_weights(plan)
    if teacher is None or weights is None:
        return model
    import paddle

    from picoquant.detector.build import build_picodet
    from picoquant.detector.weights import load_weights
    from picoquant.training.distillation.student import Student, Taught

    if not any(".head." in f".{name}" for name in read_weights(weights)):
        raise UserError(
            f"{weights}: holds a backbone alone, and a teacher must be trained whole; set Train.teacher_weights"
        )
    noted = stage_record(teacher.run, "train").get("metrics", {}).get("classes") if teacher.run else None
    if teacher.what.of_outputs and isinstance(noted, list) and tuple(noted) != class_names:
        raise UserError(
            f"Train.teacher: {teacher.source} has the classes {', '.join(map(str, noted))} and the student "
            f"{', '.join(class_names)}: name a teacher of the same, or learn its maps alone: Train.distillation=FGD"
        )
    network = build_picodet(replace(teacher.detector, num_classes=len(class_names)))
    report = load_weights(network, weights)
    if report.skipped and teacher.what.of_outputs:
        raise UserError(
            f"{weights}: trained for another number of classes than the student's {len(class_names)}: name a teacher "
            "of the same classes, or learn its maps alone: Train.distillation=FGD"
        )
    with_maps, threads = teacher.what.fgd is not None, available_cpus()
    predict = compiled_teacher(
        network, with_maps, teacher.what.of_outputs, *plan.teachers_images(teacher), device, max(1, threads)
    )
    levels = len(network.strides) if with_maps else 0

    def teach(image: Any) -> Taught:
        found = [paddle.to_tensor(array) for array in predict({"image": image.numpy()})]
        scores, distances = found[levels:] or (None, None)
        return Taught(tuple(found[:levels]), scores, distances)

    LOG.info("train: learning %s from %s (%s)", _learned(teacher.what), teacher.source, weights)
    return Student(model, teach, network.neck.out_channels[0], teacher.what)


def _learned(what: TeachingSettings) -> str:
    parts = {
        "feature maps (FGD)": what.fgd,
        "distributions of distances (LD)": what.ld,
        "class scores (KD)": what.kd,
    }
    return ", ".join(name for name, settings in parts.items() if settings)


def start_digest(plan: Plan) -> str | None:
    """SHA-256 of the file of `pretrain_weights`; None for none, for an address, and where the file is not there."""
    named = plan.pretrain_weights
    path = _local_start(str(named)) if named and "://" not in str(named) else None
    return sha256(path) if path else None


def _local_start(named: str) -> Path | None:
    path = Path(named).expanduser()
    return path if path.is_file() else shipped_weights(named)


def load_start(model: Any, weights: Path) -> bool:
    """Start training from a detector's weights, or from a backbone's alone.

    Returns: whether the network was made smaller for them, see `take_pruned_shapes`.

    Raises: `WeightsError` for weights of another architecture.
    """
    from picoquant.detector.weights import load_backbone_weights, load_weights

    whole = any(".head." in f".{name}" for name in read_weights(weights))
    smaller = whole and take_pruned_shapes(model, weights)
    report = (load_weights if whole else load_backbone_weights)(model, weights)
    LOG.info("%s: starting from %d arrays", weights, report.loaded)
    if weights.parent == shipped_folder(WEIGHTS):
        LOG.info(
            "%s: trained before, on other images of the generated kind (weights/README.md): the mAP is not that of "
            "training from scratch",
            weights.name,
        )
    if report.skipped:
        LOG.info("%s: without the class layers (another number of classes)", weights)
    return smaller
