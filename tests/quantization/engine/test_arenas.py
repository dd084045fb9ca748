"""Threads take their memory from one arena."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, threading
if sys.argv[1] == "one":
    from picoquant.quantization.engine.arenas import use_one_arena
    use_one_arena()
libc = ctypes.CDLL(None)
threads = [threading.Thread(target=lambda: [libc.malloc(1000) for _ in range(10)]) for _ in range(3)]
for one in threads:
    one.start()
for one in threads:
    one.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other allocators")
@pytest.mark.parametrize(("which", "several"), [("one", False), ("each", True)])
def test_arenas_of_threads(which, several):
    done = subprocess.run([sys.executable, "-c", SCRIPT, which], capture_output=True, text=True, check=True)
    if "Arena 0" not in done.stderr:
        pytest.skip("the C library has no malloc_stats as glibc's")
    assert ("Arena 1" in done.stderr) is several
