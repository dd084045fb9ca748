"""Networks that several rooms' tests share, each made once, when a test first asks for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def detector():
    """The network that is exported, see `exported`."""
    from tests.networks.exported import make_detector

    return make_detector(3)


@pytest.fixture(scope="session")
def infer_config():
    from tests.networks.exported import CONFIG

    return CONFIG


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """`[3, 3, 64, 96]`, 0 to 1."""
    from tests.networks.exported import SIZE

    return np.random.RandomState(0).rand(3, 3, *SIZE).astype(np.float32)


@pytest.fixture(scope="session")
def exports(detector, infer_config, tmp_path_factory):
    """Model folders by kind."""
    from picoquant.export.paddle_export import export_model

    folder = tmp_path_factory.mktemp("exports")
    return {
        kind: export_model(detector, folder / kind, kind, infer_config.input_size, infer_config)
        for kind in ("raw", "boxes", "detections")
    }


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A `ModelFolder`: the INT8 network of `small_int8`."""
    from tests.networks.small_int8 import write_small

    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def taken_apart(small):
    """Its program for one image, its stored values, and the `Int8Network` read from them."""
    from picoquant.int8.paddle.reader import read_network
    from picoquant.paddle_program.edit import batch_of_one
    from picoquant.paddle_program.params import read_params

    program = batch_of_one(small.model, (32, 32))
    params = read_params(program, small.params)
    return program, params, read_network(program, params, small.model)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """Folder of the exported network of `small_net`."""
    from tests.networks.small_net import export_small

    folder = tmp_path_factory.mktemp("small")
    export_small(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """`models(configuration, kind)`: an INT8 `ModelFolder` of random weights, made at the first call."""
    from tests.networks.quick_int8 import exported, quick_int8

    made = {}

    def make(config="picodet_s_416_coco_npu.yml", kind="raw", **quant):
        key = (config, kind, *quant.items())
        if key not in made:
            folder = tmp_path_factory.mktemp("model")
            made[key] = quick_int8(exported(config, folder / "fp32", kind=kind), folder / "int8", **quant)
        return made[key]

    return make


@pytest.fixture(scope="session")
def checked(models, opt):
    """`checked(target, configuration, kind)`: the `CheckResult`."""
    from picoquant.npu.check import check_model
    from picoquant.targets.profiles import load_target

    made = {}

    def check(target="rv1126", config="picodet_s_416_coco_npu.yml", kind="raw", **quant):
        key = (target, config, kind, *quant.items())
        if key not in made:
            made[key] = check_model(models(config, kind, **quant), load_target(target), opt)
        return made[key]

    return check


@pytest.fixture(scope="session")
def run_made(tmp_path_factory):
    """A small run folder."""
    from tests.networks.run_folder import write_run

    return write_run(tmp_path_factory.mktemp("run") / "output")


@pytest.fixture
def run_dir(run_made, tmp_path):
    """A folder with `output/` in it, to write to; its annotations stay where they were made."""
    shutil.copytree(run_made, tmp_path / "output")
    return tmp_path / "output"
