"""Compiled networks, with the stand-in of `conftest.py` in the place of VeriSilicon's driver."""

from __future__ import annotations

import json

import numpy as np
import pytest

from picoquant.errors import UserError
from picoquant.npu.emulated.compiled import CompiledFacts, CompiledNetwork, compile_for, compile_into
from picoquant.npu.emulated.describe import describe_network, ends, form_of
from tests.npu.emulated.conftest import SIZE
from tests.npu.emulated.test_network import answer


def test_a_compiled_network_is_run_by_what_the_manifest_says(simulation, tool, image):
    content, facts = compile_for(simulation, tool, "VIPX")
    assert content.decode() == describe_network(simulation, form_of(simulation)).text
    assert (facts.file, facts.chip, facts.emulator) == ("network_binary.nb", "VIPX", "6.57.1")
    (source,) = facts.inputs
    assert (source.name, source.shape, source.zero_point) == ("image", (3, SIZE, SIZE), 128)
    assert [one.name for one in facts.outputs] == [name for name, _ in simulation.outputs]
    assert facts.outputs[0].shape == (3, SIZE // 8, SIZE // 8)  # a map, where the output has rows
    again = CompiledFacts.from_json(json.loads(json.dumps(facts.to_json())), "manifest.json")
    assert again == facts
    answer(tool, simulation, image)
    with CompiledNetwork(content, again, tool) as network:
        outputs = network({"image": image})
    for output, expected, (name, shape) in zip(outputs, simulation({"image": image}), network.outputs):
        np.testing.assert_array_equal(output, expected, err_msg=name)
        assert output.shape == shape


def test_the_program_is_given_the_compiled_network(simulation, tool):
    _, facts = compile_for(simulation, tool, "VIPX")
    network = CompiledNetwork(b"compiled", facts, tool)
    description = network._network
    assert description.data == b"compiled"
    count = len(facts.outputs)
    wanted = f"compiled 0  1 0 {count} {' '.join(map(str, range(1, count + 1)))}"
    assert description.text.splitlines()[-1] == wanted
    network.__exit__(None, None, None)


def test_a_network_that_the_driver_refuses_is_left_out(simulation, tool, tmp_path, caplog, monkeypatch):
    from picoquant.npu.emulated import compiled
    from picoquant.targets.profiles import load_target

    (tool.path / "refuse").touch()
    monkeypatch.setattr("picoquant.npu.simulation.simulation.NpuSimulation", lambda model, rules: simulation)
    monkeypatch.setattr(compiled, "chip_of", lambda target, tool: "VIPX")
    left_out = compile_into(tmp_path, None, load_target("a311d"), tool)
    said = "VIPX ended with exit code 3: the driver refused to compile the network"
    assert said in left_out["left_out"] and said in caplog.text
    assert not (tmp_path / "network_binary.nb").exists()


@pytest.mark.parametrize("values", [{}, {"file": "f", "chip": "c"}, [1], None])
def test_a_manifest_that_does_not_say_it(values):
    with pytest.raises(UserError, match=r"manifest.json does not say what the compiled network is"):
        CompiledFacts.from_json(values, "manifest.json")


def test_ends_are_in_the_order_of_the_outputs(simulation):
    assert list(ends(simulation)) == [name for name, _ in simulation.outputs]
    network = describe_network(simulation, form_of(simulation))
    assert [name for name, _, _ in network.outputs] == list(ends(simulation).values())
