"""The Paddle at hand is one that is known, and one that is not is refused in a line."""

from __future__ import annotations

import subprocess
import sys

import paddle
import pytest

from picoquant.errors import ToolError
from picoquant.utils.paddle_version import differences, self_test
from picoquant.utils.paddle_version.self_test import require_known_paddle


@pytest.fixture(autouse=True)
def _anew():
    require_known_paddle.cache_clear()
    yield
    require_known_paddle.cache_clear()


def said() -> str:
    with pytest.raises(ToolError) as error:
        require_known_paddle()
    text = str(error.value)
    assert text.startswith(f"PaddlePaddle {paddle.__version__} ") and "from 2.6.2 on and before 3.4;" in text
    return text


def test_this_one_is_known():
    require_known_paddle()
    third = paddle.__version__.startswith("3.")
    assert differences.paddle_3() == third
    assert differences.clip_gradient_at_its_bounds() == ((1.0, 1.0) if third else (0.0, 0.0))
    assert differences.onednn_attribute() == ("use_onednn" if third else "use_mkldnn")


@pytest.mark.parametrize("version", ["2.5.2", "3.4.0", "0.0.0", "3.4.0-dev", "nightly", "3.3.0.dev20250901"])
def test_another_version(version, monkeypatch):
    monkeypatch.setattr(paddle, "__version__", version)
    assert "is no version that picoquant was tried with" in said()


@pytest.mark.parametrize("version", ["2.6.2", "3.0.0", "3.3.1", "3.3.0-rc1", "2.6.2+cu118"])
def test_a_version_within_the_range(version, monkeypatch):
    monkeypatch.setattr(paddle, "__version__", version)
    require_known_paddle()


def test_a_gradient_of_clip_that_nobody_saw(monkeypatch):
    monkeypatch.setattr(self_test, "clip_gradient_at_its_bounds", lambda: (0.5, 0.5))
    assert "has another gradient of clip at its bounds" in said()


def test_gradient_operators_of_other_names(monkeypatch):
    monkeypatch.setitem(self_test._GRADIENTS, "conv2d", "conv2d_backward")
    assert "has no gradient operator conv2d_backward" in said()


def test_names_that_differ_each_time(monkeypatch):
    monkeypatch.setattr(paddle.utils.unique_name, "generate", _names())
    assert "gives other names each time" in said()


def _names():
    given = iter(range(9))
    return lambda key: f"{key}_{next(given)}"


def test_programs_of_the_new_form():
    code = (
        "import os; os.environ['FLAGS_enable_pir_api'] = '1'\n"
        "from picoquant.utils.paddle_version.self_test import require_known_paddle\n"
        "try: require_known_paddle()\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "writes programs of another form (import picoquant before paddle" in done.stdout
