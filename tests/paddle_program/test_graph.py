"""Programs read as operators with their attributes."""

from __future__ import annotations

from picoquant.backends.placement import unpartitioned


def test_attributes_of_every_type(tmp_path):
    """Against Paddle's own reading of the same program."""
    import paddle

    from picoquant.paddle_program.program import read_program

    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()):
            image = paddle.static.data("image", [1, 3, 8, 8], "float32")
            pooled = paddle.nn.functional.adaptive_avg_pool2d(image, 2)
            paddle.nn.functional.avg_pool2d(pooled, 2, padding=1, exclusive=False, ceil_mode=True)
        (tmp_path / "model.pdmodel").write_bytes(program.desc.serialize_to_string())
        wanted = [op.all_attrs() for op in program.global_block().ops]
    finally:
        paddle.disable_static()
    found = [op.attributes for op in unpartitioned(read_program(tmp_path / "model.pdmodel")).operators]
    for ours, theirs in zip(found, wanted):
        assert ours["ksize"] == tuple(theirs["ksize"]) and ours["pooling_type"] == theirs["pooling_type"]
        for key in ("adaptive", "exclusive", "ceil_mode", "global_pooling"):
            assert bool(ours[key]) == theirs[key], key
    assert found[0]["adaptive"] and not found[1]["exclusive"] and found[1]["ceil_mode"]
