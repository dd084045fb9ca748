"""What PaddleSlim's AutoCompression needs, and which settings it has nothing for."""

from __future__ import annotations

import logging
from dataclasses import fields

from picoquant.errors import ConfigError, ToolError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.settings import QuantizationSettings
from picoquant.utils.versions import versions

LOG = logging.getLogger("picoquant")

_VERSION = "2.6.0"  # the last one
_OTHERS = "set Quantize.engine to picoquant, or it"


def require_paddleslim() -> None:
    """Look at what is installed, by names and versions only.

    Raises: `ToolError` in one line where PaddleSlim cannot run.
    """
    installed = versions(("paddlepaddle", "paddlepaddle-gpu", "paddleslim"))
    paddle = installed.get("paddlepaddle") or installed.get("paddlepaddle-gpu", "")
    if not paddle.startswith("2."):
        raise ToolError(
            f"Quantize.engine: paddleslim cannot run on PaddlePaddle {paddle or '(none is installed)'}: PaddleSlim "
            f"{_VERSION}, its last release, is for PaddlePaddle 2.6; set Quantize.engine to picoquant"
        )
    if "paddleslim" not in installed:
        raise ToolError(
            "Quantize.engine: paddleslim needs PaddleSlim, which is not installed: pip install "
            "'picoquant[paddleslim]', or set Quantize.engine to picoquant"
        )


def require_settings(quantization: QuantizationSettings, quant: QuantAwareSettings) -> None:
    """Refuse what AutoCompression cannot do of what was asked for.

    Raises: `ConfigError` naming the key.
    """
    wanted = {
        "Quantize.method": (quantization.method, "qat"),
        "Quantize.keep_float": (list(quantization.keep_float), []),
        "Quantize.max_drop": (quantization.max_drop, None),
        "QuantAware.symmetric_activations": (quant.symmetric_activations, True),
        "QuantAware.onnx_format": (quant.onnx_format, False),
    }
    for key, (value, expected) in wanted.items():
        if value != expected:
            raise ConfigError(
                f"{key} is {_yaml(value)}, and Quantize.engine: paddleslim, which runs AutoCompression, has nothing "
                f"like that: {_OTHERS} to {_yaml(expected)}"
            )


def _yaml(value: object) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def say_unused(quantization: QuantizationSettings) -> None:
    """Log which keys of section `Quantize` were set and are not used."""
    default = QuantizationSettings()
    unused = [
        f"Quantize.{one.name}"
        for one in fields(quantization)
        if one.name != "engine" and getattr(quantization, one.name) != getattr(default, one.name)
    ]
    if unused:
        LOG.warning("quantize: %s: not used, Quantize.engine is paddleslim", ", ".join(unused))
