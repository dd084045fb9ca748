"""What `eval` says of the emulator's options before anything runs."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from picoquant.cli.main import cli
from picoquant.commands.on_runtimes import require_chips
from picoquant.errors import ToolError
from picoquant.targets.profiles import load_target


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--emulator"], "--emulator needs --target, without --ladder"),
        (["--emulator", "--target", "a311d", "--ladder"], "--emulator needs --target, without --ladder"),
        (["--every-tensor", "--target", "a311d"], "--every-tensor needs --emulator"),
    ],
)
def test_options_that_do_not_go_together(options, said):
    result = CliRunner().invoke(cli, ["eval", *options])
    assert result.exit_code == 2 and said in result.output


def test_an_absent_emulator_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setattr("picoquant.backends.verisilicon.toolchain.tool_homes", lambda name: [tmp_path])
    with pytest.raises(ToolError, match=r"is not installed: run `picoquant toolchain install verisilicon"):
        require_chips([load_target("a311d")])
