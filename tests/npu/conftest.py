"""INT8 networks of random weights, made once, and what `picoquant check` finds about them."""

from __future__ import annotations

import pytest

from tests.npu.quick_int8 import exported, quick_int8


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """`models(configuration, kind)`: an INT8 `ModelFolder`, made at the first call."""
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
