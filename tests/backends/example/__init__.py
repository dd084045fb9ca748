"""A backend as small as it gets, for the tests: NumPy computes what it wrote into a `.npz`."""

from picoquant.backends.base import Backend

BACKENDS = (
    Backend(
        "numpy",
        "NumPy",
        __name__,
        suffixes=(".npz",),
        takes_threads=False,
        step="numpy",
        step_says="the .npz ({made}) computed by NumPy",
        check="numpy",
    ),
)
