"""What is fuzzed: for each kind of input how bad ones are made, and what must cope with them."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import yaml
from hypothesis import strategies as st

from picoquant.errors import DataError
from tests.fuzz.edits import BYTE_EDITS, EDITS, as_json, edited, edited_bytes


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        cases: strategy of bad inputs.
        run: takes an empty folder and a case.
        own_process: whether each case has a process of its own.
    """

    cases: st.SearchStrategy
    run: Callable[[Path, Any], None]
    own_process: bool = False


COCO = {
    "images": [
        {"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in (1, 2, 5)
    ],
    "annotations": [
        {"id": n, "image_id": i, "category_id": c, "bbox": [1.5 * n, 2, 20, 15], "area": 300, "iscrowd": n % 2,
         "ignore": 0, "segmentation": [[1, 2, 3, 4, 5, 6]]}
        for n, (i, c) in enumerate([(1, 3), (1, 7), (2, 7), (5, 3)])
    ],
    "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}],
}  # fmt: skip

VOC = """<?xml version="1.0" encoding="utf-8"?>
<annotation><filename>1.png</filename><size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>30.5</ymax>
</bndbox></object><object><name>cat</name><bndbox><xmin>5</xmin><ymin>2</ymin><xmax>9</xmax><ymax>30</ymax></bndbox>
</object></annotation>
"""


def _settings(kind: str, folder: Path, **more: Any) -> Any:
    from picoquant.data.settings import DatasetSettings

    return DatasetSettings(kind, dataset_dir=str(folder), **more)


def _load(settings: Any) -> None:
    """Load for evaluation and for training; the former's refusal is no reason not to try the latter."""
    from picoquant.data.formats.load import load_dataset

    refused = None
    for training in (False, True):
        try:
            dataset = load_dataset(settings, training)
            if not training:
                dataset.ground_truth()
        except DataError as error:
            refused = error
    if refused:
        raise refused


def run_coco(folder: Path, content: bytes) -> None:
    """An annotation file in COCO's format."""
    (folder / "images").mkdir()
    for number in (1, 2, 5):
        (folder / "images" / f"{number}.png").touch()
    (folder / "a.json").write_bytes(content)
    _load(_settings("coco", folder, image_dir="images", anno_path="a.json"))


def run_voc(folder: Path, content: tuple[bytes, bytes]) -> None:
    """An XML file and a list of images in VOC's format."""
    (folder / "1.png").touch()
    (folder / "1.xml").write_bytes(content[0])
    (folder / "list.txt").write_bytes(content[1])
    _load(_settings("voc", folder, anno_path="list.txt"))


def run_weights(folder: Path, content: bytes) -> None:
    """A file of weights."""
    from picoquant.weight_files.files import read_weights

    (folder / "a.pdparams").write_bytes(content)
    for value in read_weights(folder / "a.pdparams").values():
        assert value.dtype == np.float32


def _weights() -> list[bytes]:
    import zipfile

    from safetensors.numpy import save

    state = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}
    packed = io.BytesIO()
    np.savez_compressed(packed, **state)
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("a.npy", packed.getvalue())
    pickles = [pickle.dumps(state, protocol=protocol) for protocol in (2, 3, 4, 5)]
    return [*pickles, save(state), packed.getvalue(), stored.getvalue()]


def run_recipe(folder: Path, content: bytes) -> None:
    """A recipe or a configuration, up to the settings of every stage."""
    from dataclasses import asdict

    from picoquant.stages.plan import load_plan

    (folder / "a.yml").write_bytes(content)
    plan = load_plan(str(folder / "a.yml"))
    assert plan.common.seed >= 0 and plan.workers >= 0 and len(plan.input_size) == 2
    for settings in (plan.detector, plan.training):
        asdict(settings)
    assert plan.train_reader.batch_size > 0 and plan.eval_reader.batch_size > 0


def _recipes() -> list[Any]:
    from picoquant.config.recipe import load_recipe
    from picoquant.yaml_files.load import load_mapping
    from picoquant.yaml_files.locate import shipped

    whole = dict(load_recipe("picodet_s_qat_dis", []).document)
    return [
        whole,
        load_mapping(shipped("recipes", "picodet_s_qat_dis")),
        load_mapping(shipped("recipes", "quickstart")),
    ]


def as_yaml(value: Any) -> bytes:
    """YAML of a document, tags kept; what YAML cannot say becomes its text."""
    from picoquant.yaml_files.load import dump_yaml

    try:
        return dump_yaml(value).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, TypeError):
        return repr(value).encode("utf-8", "replace")


def run_profile(folder: Path, content: bytes) -> None:
    """An NPU target's profile."""
    from picoquant.targets.profiles import load_target

    (folder / "a.yaml").write_bytes(content)
    load_target(folder / "a.yaml")


def _profiles() -> list[Any]:
    from picoquant.yaml_files.load import load_mapping
    from picoquant.yaml_files.locate import shipped

    return [load_mapping(shipped("npu_targets", name)) for name in ("rv1126", "a311d", "generic_onnx")]


def run_infer_config(folder: Path, content: bytes) -> None:
    """The description beside an exported model, up to an image prepared by it."""
    from picoquant.paddle_program.infer_config import read_infer_config
    from picoquant.paddle_program.network_input import feed_of_image

    (folder / "infer_cfg.yml").write_bytes(content)
    feed_of_image(np.full((40, 50, 3), 90, np.uint8), read_infer_config(folder))


def _infer_configs() -> list[Any]:
    from picoquant.paddle_program.infer_config import InferConfig

    plain = InferConfig((64, 64), ("a", "b"))
    return [plain.to_mapping(), InferConfig((32, 64), ("a",), keep_ratio=True, pad_stride=32).to_mapping()]


def run_override(folder: Path, texts: list[str]) -> None:
    """`--set` texts."""
    from picoquant.config.recipe import load_recipe

    assert load_recipe("quickstart", texts).common.seed >= 0


_KEYS = st.sampled_from(
    ["Global.seed", "epoch", "Global.input_size", "TrainReader.batch_size", "Global", "worker_num",
     "LearningRate.base_lr", "Package.target", "TrainDataset.dataset_dir", "PicoHeadV2.fpn_stride", "a.b", ""]
)  # fmt: skip
_SETS = st.lists(
    st.builds(lambda key, value: f"{key}={value}", _KEYS, st.one_of(st.text(max_size=30), st.integers(), st.floats())),
    min_size=1, max_size=3,
)  # fmt: skip


def kinds() -> dict[str, Kind]:
    """All kinds by name."""
    from tests.fuzz.images import IMAGES, run_image
    from tests.fuzz.models import models, run_model, run_program
    from tests.fuzz.packages import bombs, packages, run_package

    def documents(base: list[Any], write: Callable[[Any], bytes]) -> st.SearchStrategy:
        good = [write(document) for document in base]
        return st.one_of(
            st.builds(lambda d, e: write(edited(d, e)), st.sampled_from(base), EDITS),
            st.builds(edited_bytes, st.sampled_from(good), BYTE_EDITS),
        )

    xml, listing = VOC.encode(), b"1.png 1.xml\n"
    voc = st.tuples(
        st.one_of(st.just(xml), st.builds(edited_bytes, st.just(xml), BYTE_EDITS)),
        st.one_of(st.just(listing), st.builds(edited_bytes, st.just(listing), BYTE_EDITS)),
    )
    return {
        "coco": Kind(documents([COCO], as_json), run_coco),
        "voc": Kind(voc, run_voc),
        "images": Kind(IMAGES, run_image),
        "recipes": Kind(documents(_recipes(), as_yaml), run_recipe),
        "overrides": Kind(_SETS, run_override),
        "profiles": Kind(documents(_profiles(), as_yaml), run_profile),
        "infer_cfg": Kind(documents(_infer_configs(), as_yaml), run_infer_config),
        "weights": Kind(st.builds(edited_bytes, st.sampled_from(_weights()), BYTE_EDITS), run_weights),
        "packages": Kind(st.deferred(packages), run_package, own_process=True),
        "paddle": Kind(st.deferred(lambda: models("model.pdmodel")), run_model, own_process=True),
        "programs": Kind(st.deferred(lambda: models("model.pdmodel")), run_program, own_process=True),
        "onnx": Kind(st.deferred(lambda: models("model.onnx")), run_model, own_process=True),
        "bombs": Kind(st.deferred(bombs), run_package, own_process=True),
    }
