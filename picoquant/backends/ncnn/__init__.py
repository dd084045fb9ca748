"""ncnn: `.param` and `.bin` written directly, and its runtime on the CPU."""

from picoquant.backends.base import Backend

BACKENDS = (
    Backend(
        "ncnn",
        "ncnn",
        __name__,
        integers=False,  # of depthwise convolutions only the weights, see `export.py`
        parity=30.0,  # which are not given rounded values, as they are in the reference
        suffixes=(".param", ".bin"),
        file="model.param",
        step="ncnn",
        step_says="the INT8 .param and .bin ({made}) in ncnn",
        check="ncnn",
    ),
)
