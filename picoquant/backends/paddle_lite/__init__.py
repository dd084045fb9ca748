"""Paddle Lite: its optimiser `opt`, the forms it takes, and its x86 runtime."""

from picoquant.backends.base import Backend

BACKENDS = (
    Backend(
        "lite",
        "Paddle Lite's x86 runtime",
        __name__,
        integers=False,
        parity=30.0,  # only weights are rounded
        suffixes=(".nb",),
        takes_threads=False,
        step="nb",
        step_says=(
            "the .nb that opt makes of the INT8 model for x86, its weights in float, in Paddle Lite's runtime"
        ),
        check="paddle_lite_x86",
    ),
)
