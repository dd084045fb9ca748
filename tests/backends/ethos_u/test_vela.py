"""Vela on real models, and what is said where it refuses one, crashes or is another version."""

from __future__ import annotations

import stat
import sys
from dataclasses import replace

import pytest

from picoquant.backends.base import MACHINE, load_backend
from picoquant.backends.ethos_u.vela import compile_model
from picoquant.backends.source import Source
from picoquant.backends.tflite.first_operators import operator_names
from picoquant.backends.tflite.writer import make_tflite
from picoquant.errors import ToolError, UserError
from picoquant.targets.profiles import load_target

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'picoquant[tflite]'")
NPU, LCNET = "picodet_s_416_coco_npu.yml", "picodet_xs_320_coco_lcnet.yml"
BACKEND = load_backend("ethos-u")


@pytest.fixture(scope="module")
def vela():
    try:
        return BACKEND.toolchain.find(MACHINE)
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def content(models):
    return make_tflite(Source(models(NPU)).network)


@pytest.fixture
def imx93():
    return load_target("imx93")


@pytest.mark.parametrize("config", [NPU, LCNET])
def test_the_whole_network_is_on_the_npu(config, models, vela, tmp_path):
    source = Source(models(config))
    said = {
        name: BACKEND.report.report(source, vela, load_target(name)) for name in ("imx93", "ethos_u55_128")
    }
    for report in said.values():
        assert report.operators["cpu"] == 0 and report.operators["npu"] > 140 and report.on_cpu == ()
        assert report.milliseconds == pytest.approx(report.cycles / report.clock * 1e3)
    assert said["imx93"].clock == 1e9 and set(said["imx93"].memory) == {"SRAM", "DRAM"}
    assert said["ethos_u55_128"].clock == 5e8 and set(said["ethos_u55_128"].memory) == {
        "SRAM",
        "off-chip flash",
    }
    assert all(size < 4e6 for report in said.values() for size in report.memory.values())
    if config == NPU:
        made = BACKEND.export.export(source, tmp_path / "model", vela, load_target("ethos_u85_256"))
        assert [path.name for path in made.files] == ["model.tflite"] and made.bytes > 500_000
        assert any("CUSTOM" in name for name in operator_names(made.files[0].read_bytes()))


def test_an_operator_that_stays_on_the_cpu_is_named(models, vela, imx93):
    """As Vela is told to leave one kind to it: it takes all of ours."""
    content = make_tflite(Source(models(NPU)).network)
    said = compile_model(
        content, imx93, (sys.executable, "-m", "ethosu.vela", "--ignore-ops", "CONCATENATION")
    )
    assert said.operators["cpu"] == len(said.on_cpu) == 8
    assert {kind for kind, _ in said.on_cpu} == {"CONCATENATION"}
    assert all(name.startswith("concat_") for _, name in said.on_cpu)


def test_it_wants_a_target_with_its_settings(models, vela, content):
    with pytest.raises(UserError, match="rv1126 has no Ethos-U: its profile has no section ethos_u"):
        compile_model(content, load_target("rv1126"))
    with pytest.raises(UserError, match="Vela compiles for a board: name one"):
        BACKEND.export.export(Source(models(NPU)), None, vela)
    with pytest.raises(ToolError, match="compiles models for boards and runs none"):
        BACKEND.toolchain.find(MACHINE, to_run=True)


def refusal(work) -> str:
    with pytest.raises(ToolError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_its_own_word_is_said(content, vela, imx93):
    other = replace(imx93, ethos_u=replace(imx93.ethos_u, system_config="Ethos_U65_Nowhere"))
    said = refusal(lambda: compile_model(content, other))
    assert said.startswith("Vela does not compile the model for imx93: ") and "Ethos_U65_Nowhere" in said
    other = replace(imx93, ethos_u=replace(imx93.ethos_u, accelerator="ethos-u99"))
    assert "invalid choice: 'ethos-u99'" in refusal(lambda: compile_model(content, other))
    said = refusal(lambda: compile_model(b"no model", imx93))
    assert said.startswith("Vela does not compile the model for imx93: ") and len(said) > 60


def program(path, body):
    """A program in Vela's place: the real one cannot be made to crash."""
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys\nfrom pathlib import Path\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path),)


def test_a_crash_names_the_signal_and_the_operator(content, imx93, tmp_path):
    names = operator_names(content)
    wanted = next(index for index, name in enumerate(names) if name.startswith("CONCATENATION"))
    result = names[wanted].split(" ", 1)[1]
    crash = f"""
from picoquant.backends.tflite.first_operators import operator_names
if len(operator_names(Path(sys.argv[1]).read_bytes())) > {wanted}:
    os.kill(os.getpid(), signal.SIGSEGV)
"""
    said = refusal(lambda: compile_model(content, imx93, program(tmp_path / "vela", crash)))
    assert said == (
        f"Vela crashes on the model for imx93 (SIGSEGV): the first {wanted + 1} of {len(names)} operators are enough, "
        f"the last of them is CONCATENATION {result}"
    )


def test_a_report_of_another_form_is_refused(content, imx93, tmp_path):
    said = refusal(lambda: compile_model(content, imx93, program(tmp_path / "vela", "print('done')")))
    assert said.startswith("Vela's report for imx93 has another form than that of its versions 5: ")


def test_another_version_is_refused(monkeypatch, vela):
    monkeypatch.setattr(BACKEND.toolchain, "VERSIONS", ">=99")
    said = refusal(lambda: BACKEND.toolchain.find(MACHINE))
    assert (
        f"{vela.version} is installed, picoquant takes >=99" in said
        and "pip install 'ethos-u-vela>=99'" in said
    )
