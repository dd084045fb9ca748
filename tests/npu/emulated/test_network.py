"""Whole networks in the emulator's place: crashes, kept results, differences.

The program here is a stand-in of a few lines that speaks as `network_runner.c` does: tests may not need the emulator.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from picoquant.backends.verisilicon.emulator import Emulation, EmulatorEnded
from picoquant.backends.verisilicon.install import RUNNER
from picoquant.errors import ToolError
from picoquant.npu.emulated import network as emulated
from picoquant.npu.emulated.describe import describe_network, ends, form_of
from picoquant.npu.emulated.network import Cache, EmulatedNetwork
from picoquant.npu.simulation.arithmetic import quantise
from tests.npu.emulated.conftest import SIZE


def answer(tool, simulation, image, changed=0):
    """Have the stand-in answer with the simulation's outputs, of which the first values are one level off."""
    name = simulation.input_names[0]
    network = describe_network(simulation, form_of(simulation))
    held = simulation.run_steps({name: image}, keep=True)
    parts = [(held[output].ravel() + zero).astype(np.uint8) for output, _, zero in network.outputs]
    parts[0][:changed] ^= 1
    (tool.path / "results").write_bytes(b"".join(part.tobytes() for part in parts))


def started(tool):
    return len((tool.path / "started").read_text())


def test_outputs_and_differences_are_the_emulators(simulation, tool, image):
    answer(tool, simulation, image, changed=5)
    with EmulatedNetwork(simulation, tool, "VIPX", processes=1) as network:
        outputs = network({"image": np.concatenate([image, image])})
        remark = network.remark
    expected = simulation({"image": image})
    assert [output.shape[0] for output in outputs] == [2] * len(expected)
    assert (outputs[0] != expected[0]).sum() == 10 and (outputs[1] == expected[1]).all()
    total = 2 * sum(output.size for output in expected)
    assert remark == f"10 of {total:,} values differ from the simulation, by up to 1 level"


def test_an_image_that_ends_it_is_one_line_and_the_others_go_on(simulation, tool, image, caplog):
    answer(tool, simulation, image)
    largest = simulation.params["image"].high * simulation.params["image"].scale
    bad = np.full_like(image, largest * 2)
    with EmulatedNetwork(simulation, tool, "VIPX", processes=1) as network:
        outputs = network({"image": np.concatenate([image, bad, image])})
    assert network.crashed == [2]
    assert (
        "image 2: VeriSilicon's emulator of VIPX ended with SIGABRT: out of range; the others go on"
        in caplog.text
    )
    assert "the emulator ended on images 2, which count as empty" in network.remark
    lowest = simulation.params[simulation.outputs[0][0]]
    assert (outputs[0][1] == np.float32(lowest.low * lowest.scale)).all()
    assert (outputs[0][0] == outputs[0][2]).all() and started(tool) == 2


def test_a_network_that_is_refused_is_an_error(simulation, tool, image):
    (tool.path / "refuse").touch()
    said = pytest.raises(EmulatorEnded, match=r"VIPX ended with exit code 3: the driver refused the graph")
    with EmulatedNetwork(simulation, tool, "VIPX", processes=1) as network, said:
        network({"image": image})


def test_an_operator_that_is_refused_is_named(simulation, tool, image):
    """By the number that ovxlib says, in the order of what was handed over."""
    nodes = describe_network(simulation, form_of(simulation)).nodes
    number = next(number for number, node in enumerate(nodes) if node.operator == "resize")
    refused = f"E [vsi_nn_graph.c:setup_node:556]Check node[{number}] RESIZE fail"
    named = f"does not take resize, which computes {nodes[number].name}, for VIPX: "
    for printed, said in (
        (refused, rf"{named}Check node\[{number}\] RESIZE fail$"),
        (f"E [ops/x.c:op_check:169]type not support: INT8\n{refused}", f"{named}type not support: INT8$"),
        (refused.replace(str(number), "4000"), "ended with exit code 3: the driver refused the graph"),
    ):
        (tool.path / "refuse").write_text(printed)
        with (
            EmulatedNetwork(simulation, tool, "VIPX", processes=1) as network,
            pytest.raises(EmulatorEnded, match=said),
        ):
            network({"image": image})


def test_memory_that_ran_out_is_said(simulation, tool, image):
    """The system kills the process then."""
    (tool.path / "kill").touch()
    said = pytest.raises(
        EmulatorEnded, match=r"emulator was ended: it takes up to \d+ MB of memory; end other"
    )
    with EmulatedNetwork(simulation, tool, "VIPX", processes=1) as network, said:
        network({"image": image})


def test_an_image_that_takes_too_long(simulation, tool):
    network = describe_network(simulation, form_of(simulation))
    program = next(tool.path.glob(f"{RUNNER}-*"))
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    said = pytest.raises(EmulatorEnded, match=r"computed one image for more than 0 s and was stopped")
    with Emulation(tool, "VIPX", network, timeout=0.5) as emulation, said:
        emulation.run(b"")


def test_results_are_kept_and_others_are_not_taken(simulation, tool, image, tmp_path, caplog):
    answer(tool, simulation, image)
    cache = tmp_path / "kept"

    def run(chip="VIPX"):
        with EmulatedNetwork(simulation, tool, chip, cache, processes=1) as network:
            return network({"image": image})[0]

    first = run()
    (kept,) = cache.rglob("*.bin")
    assert (run() == first).all() and started(tool) == 1
    run("VIPY")  # another chip has results of its own
    assert started(tool) == 2 and len(list(cache.rglob("*.bin"))) == 2
    other = next(path for path in cache.rglob("*.bin") if path != kept)
    kept.write_bytes(other.read_bytes())  # a foreign one under the right name
    assert (run() == first).all() and started(tool) == 3
    assert f"{kept} is damaged, or of another network: it is computed again" in caplog.text
    kept.write_bytes(kept.read_bytes()[:-40])  # cut off
    assert (run() == first).all() and started(tool) == 4


def test_a_kept_result_is_of_one_network(simulation, tmp_path):
    network = describe_network(simulation, form_of(simulation))
    every = describe_network(simulation, form_of(simulation), every=True)
    result = bytes(network.result_bytes)
    Cache(tmp_path, network, "6.57.1 VIPX").write(b"image", result)
    assert Cache(tmp_path, network, "6.57.1 VIPX").read(b"image") == result
    for other in (Cache(tmp_path, every, "6.57.1 VIPX"), Cache(tmp_path, network, "6.58.0 VIPX")):
        assert other.read(b"image") is None


def test_processes_are_bounded_by_memory(monkeypatch):
    monkeypatch.setattr(emulated, "_free_mb", lambda: 1300)
    monkeypatch.setattr(emulated, "available_cpus", lambda: 16)
    assert emulated.processes_at_once() == 1300 // emulated.PROCESS_MB
    monkeypatch.setattr(emulated, "_free_mb", lambda: 100)
    with pytest.raises(
        ToolError, match=r"takes up to \d+ MB of memory, and 100 MB are free: end other programs"
    ):
        emulated.processes_at_once()


def test_all_operators_of_a_network_are_described(simulation):
    """Outputs and the input in order, a node for each convolution, and ReLU in place of ReLU6."""
    network = describe_network(simulation, form_of(simulation))
    assert [name for name, _, _ in network.outputs] == list(ends(simulation).values())
    kinds = [node.operator for node in network.nodes]
    assert kinds.count("conv") + kinds.count("depthwise") == 122
    assert "relu6" not in kinds and kinds.count("relu") == 104
    every = describe_network(simulation, form_of(simulation), every=True)
    held = simulation.run_steps({"image": np.zeros((1, 3, SIZE, SIZE), np.float32)}, keep=True)
    left_out = {name for name in held if name not in {one for one, _, _ in every.outputs}} - {"image"}
    assert len(left_out) == 3 * 12  # a reshape, a transpose and a scale of 1 behind each map
    assert {name for name, _ in simulation.outputs} < left_out
    image = quantise(np.ones((1, 3, SIZE, SIZE)), simulation.params["image"], "half_to_even")
    assert len(network.stored({"image": image})) == 3 * SIZE * SIZE
