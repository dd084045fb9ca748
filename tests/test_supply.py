"""What is installed, and that nothing reaches out unasked."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.command_line import SMALL, with_sets

ROOT = Path(__file__).resolve().parents[1]


def locked(file: str) -> dict[str, str]:
    """Name -> version."""
    text = (ROOT / file).read_text(encoding="utf-8")
    entries = re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert len(text.splitlines()) == 1 + 2 * len(entries)  # each package has its hash, and there is no more
    return dict(entries)


def asked() -> dict[str, list[str]]:
    """For each lock, the lines that it must fulfil."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    tool = config["options"]["install_requires"] + extras["dev"]
    site = (ROOT / "docs/requirements.txt").read_text(encoding="utf-8")
    return {
        "requirements.lock": (tool + extras["paddleslim"]).splitlines(),
        "requirements-paddle3.lock": [*tool.splitlines(), "paddlepaddle>=3"],
        "requirements-docs.lock": site.splitlines(),
    }


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-paddle3.lock", "requirements-docs.lock"])
def test_the_lock_holds_what_is_asked_for(file):
    wanted = [Requirement(line) for line in asked()[file] if line and not line.startswith("#")]
    found = locked(file)
    for requirement in wanted:
        version = found.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in {file}; run .ci/lock.py"
        assert requirement.specifier.contains(version), f"{requirement} and {version}; run .ci/lock.py"


_CODE = """
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        if event != "socket.connect" or isinstance(arguments[1], tuple):
            print("NETWORK", event, arguments[1:], flush=True)
sys.addaudithook(hook)
import picoquant
import paddle, onnx, onnxruntime, pycocotools.coco, cv2
from picoquant.quantization.engine.session import quiet
from importlib import import_module
with quiet():
    for name in ("paddleslim", "paddle2onnx", "visualdl"):
        try:
            import_module(name)
        except ImportError:
            pass
from picoquant.cli.main import cli
for command in (["info", "-c", "picodet_s_416_coco_npu.yml", "--input-size", "64"], ["doctor"], ["targets"]):
    try:
        cli(command, standalone_mode=False)
    except Exception as error:
        print(error)
import atexit
atexit.register(lambda: print("END"))
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to see what native code does")
def test_native_code_reaches_out_neither(tmp_path):
    """ONNX Runtime has telemetry of its own, which `import picoquant` turns off."""
    trace = tmp_path / "trace"
    watch = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace)]
    model = (
        "import picoquant, onnxruntime, onnx; from onnx import helper as h\n"
        "io = [h.make_tensor_value_info(n, 1, [1]) for n in 'xy']\n"
        "g = h.make_graph([h.make_node('Relu', ['x'], ['y'])], 'g', io[:1], io[1:])\n"
        "m = h.make_model(g, opset_imports=[h.make_opsetid('', 13)], ir_version=8)\n"
        "s = onnxruntime.InferenceSession(m.SerializeToString(), providers=['CPUExecutionProvider'])\n"
        "print(s.run(None, {'x': __import__('numpy').ones(1, 'f4')}))\n"
    )
    done = subprocess.run(
        [*watch, sys.executable, "-c", model],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("ORT_")},
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not watch processes here")
    assert "[array([1.]" in done.stdout, done.stderr
    assert "AF_INET" not in trace.read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to see what native code does")
def test_a_run_of_all_stages_needs_no_network_and_looks_for_none(tmp_path):
    trace = tmp_path / "trace"
    alone = ["unshare", "-n"]  # nothing but itself can be reached
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    watch = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace)]
    command = [
        sys.executable,
        "-m",
        "picoquant",
        "run",
        "-c",
        "quickstart",
        "--save-dir",
        str(tmp_path / "run"),
    ]
    sets = with_sets([*SMALL, "Package.target=generic_onnx"])
    done = subprocess.run([*alone, *watch, *command, *sets], capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not watch processes here")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/package/generic_onnx.tar.gz").is_file()
    assert "AF_INET" not in trace.read_text()


def test_nothing_reaches_out_unasked(tmp_path):
    """Python's own sockets."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False
    )
    assert "END" in done.stdout, done.stderr[-1000:]
    assert "NETWORK" not in done.stdout


def test_the_watch_sees_a_connection():
    code = (
        _CODE.split("import picoquant")[0]
        + "import socket\ns = socket.socket()\ns.connect_ex(('127.0.0.1', 9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "NETWORK socket.connect" in done.stdout
