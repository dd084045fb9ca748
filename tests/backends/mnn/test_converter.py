"""MNN's converter: the same file each time."""

from __future__ import annotations

from picoquant.backends.mnn.converter import identified

RANDOM = (b"81be9db9-0817-46aa-bd6a-056b98173ce8", b"424dff39-ccce-49c5-b71d-b1891d783242")


def test_a_random_identifier_becomes_one_of_the_content():
    one, two = (identified(b"graph\x24\0\0\0" + name + b"\0weights") for name in RANDOM)
    other = identified(b"graph\x24\0\0\0" + RANDOM[0] + b"\0other w")
    assert one == two != other and len(one) == len(b"graph....weights.") + 36
    assert one.startswith(b"graph\x24\0\0\0") and one.endswith(b"\0weights") and RANDOM[0] not in one
    assert identified(b"no identifier") == b"no identifier"
