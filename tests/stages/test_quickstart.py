"""The quickstart: the weights it starts from, and what it ends with on processors of both kinds."""

from __future__ import annotations

import importlib.util
import logging
import os

import numpy as np
import pytest

from picoquant.data.formats.shapes import draw_image
from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.data.seeds import SHAPES, generator
from picoquant.errors import UserError
from picoquant.stages import train
from picoquant.stages.model import start_digest, start_weights
from picoquant.stages.plan import load_plan
from picoquant.stages.stage import Context
from picoquant.weight_files.files import read_weights
from picoquant.yaml_files.locate import shipped_folder, shipped_weights

SEEDS = range(8)
LEAST = 0.60  # FP32 mAP of the worst run
SPREAD = 0.06  # largest less smallest
INT8 = 0.01  # from FP32, either way


@pytest.fixture(scope="module")
def quickstart():
    return load_plan("quickstart")


@pytest.fixture(scope="module")
def pretraining():
    return load_plan(str(shipped_folder("weights") / "quickstart_pretraining.yaml"))


def test_the_weights_are_found_by_name_from_anywhere(quickstart, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = start_weights(quickstart)
    assert path == shipped_weights("quickstart.safetensors") and path.stat().st_size < 3_000_000
    # As everywhere, a file of one's own in the working folder comes first.
    (tmp_path / "quickstart.safetensors").write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    assert start_weights(quickstart).resolve() == tmp_path / "quickstart.safetensors"
    assert start_digest(quickstart) != start_digest(load_plan("quickstart", [f"pretrain_weights={path}"]))


@pytest.mark.parametrize(
    "name", ["quickstart", "README.md", "../weights/quickstart.safetensors", "other.safetensors"]
)
def test_no_other_name_is_a_shipped_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = load_plan("quickstart", [f"pretrain_weights={name}"])
    assert shipped_weights(name) is None and start_digest(plan) is None
    with pytest.raises(
        UserError, match="^no weights at .*; pretrain_weights names them, null trains from scratch"
    ):
        start_weights(plan)


def test_what_a_file_of_weights_holds_is_an_input_of_training(tmp_path):
    file = tmp_path / "mine.npz"
    found = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        plan = load_plan(
            "picodet_s_qat_dis",
            [f"pretrain_weights={file}", "TrainDataset.dataset_dir=x", "EvalDataset.dataset_dir=x"],
        )
        found.append(train.STAGE.inputs(Context(plan, None, "cpu")))
    name = "sha256 of pretrain_weights"
    assert found[0].pop(name) != found[1].pop(name)
    assert found[0] == found[1]


def test_the_weights_are_all_of_the_network(quickstart, caplog):
    from picoquant.detector.build import build_picodet
    from picoquant.stages.model import load_start

    path = start_weights(quickstart)
    model = build_picodet(quickstart.detector_for(5))
    with caplog.at_level(logging.INFO, "picoquant"):
        load_start(model, path)
    state = read_weights(path)
    assert f"starting from {len(model.state_dict())} arrays" in caplog.text
    assert "the mAP is not that of training from scratch" in caplog.text
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name])


def states(plan, seed, sections=(0, 1)):
    """Start of the random numbers of each image: (split, place) decides them, with the seed."""
    counts = (plan.synthetic.train_images, plan.synthetic.val_images)
    return {
        repr(generator(seed, SHAPES, split, index).bit_generator.state["state"])
        for split in sections
        for index in range(counts[split])
    }


def test_no_image_of_the_quickstart_was_in_the_pretraining(quickstart, pretraining):
    assert pretraining.pretrain_weights is None  # from scratch
    assert pretraining.common.seed not in SEEDS
    before = states(pretraining, pretraining.common.seed)
    assert len(before) == pretraining.synthetic.train_images + pretraining.synthetic.val_images
    for seed in (*SEEDS, 42, 1234):
        assert before.isdisjoint(states(quickstart, seed))
    # With the very seed of the pre-training the images to evaluate on are still none that it was trained on.
    held_out = states(quickstart, pretraining.common.seed, sections=(1,))
    assert held_out.isdisjoint(states(pretraining, pretraining.common.seed, sections=(0,)))
    # Other random numbers are other pixels.
    pixels = {
        draw_image(generator(seed, SHAPES, 1, index), 64, 2, 0.16, 0.5)[0].tobytes()
        for seed in (*SEEDS, pretraining.common.seed)
        for index in range(10)
    }
    assert len(pixels) == 10 * (len(SEEDS) + 1)


def test_both_draw_the_same_kind_of_images_for_the_same_network(quickstart, pretraining):
    assert quickstart.synthetic.image_size == pretraining.synthetic.image_size
    assert quickstart.detector == pretraining.detector
    assert quickstart.input_size == pretraining.input_size


def test_the_weights_find_the_shapes_without_training(quickstart, tmp_path):
    """48 images that were not trained on; the whole evaluation is in the slow test."""
    from picoquant.backends.paddle.compiled import compiled_predictor
    from picoquant.data.formats.load import load_dataset
    from picoquant.detector.build import build_picodet
    from picoquant.detector.weights import load_weights
    from picoquant.postprocess.decoder import Decoder
    from picoquant.stages.evaluating import evaluate_model, evaluation_images

    made = write_synthetic(tmp_path / "data", SyntheticSet(seed=3, train_images=1, val_images=48))[1]
    model = build_picodet(quickstart.detector_for(5))
    load_weights(model, start_weights(quickstart))
    model.eval()
    predict = compiled_predictor(model, quickstart.input_size, "cpu")
    target = evaluation_images(load_dataset(made, False), quickstart.eval_reader, 0)
    found = evaluate_model(predict, Decoder("boxes", quickstart.nms), target, "evaluate").metrics
    assert found["mAP"] >= LEAST


@pytest.mark.slow(reason="32 runs of all stages, one or two minutes of CPU each")
def test_every_seed_on_both_kinds_of_processor(root, tmp_path, opt, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("quickstart_matrix", root / "benchmarks/quickstart.py")
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(root / "benchmarks")  # as for a script
    spec.loader.exec_module(benchmark)
    monkeypatch.setenv("PICOQUANT_LITE_OPT", str(opt.path))
    threads = [count for count in (2, 1) if count <= len(os.sched_getaffinity(0))]
    with capsys.disabled():
        rows = benchmark.matrix(tmp_path, list(SEEDS), threads, [benchmark.NATIVE, "AVX2"])
        print(benchmark.summary(rows))
    values = [row["fp32"] for row in rows]
    assert min(values) >= LEAST
    assert max(values) - min(values) <= SPREAD
    assert max(abs(row["int8"] - row["fp32"]) for row in rows) <= INT8
