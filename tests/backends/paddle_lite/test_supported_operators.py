"""The lists of operators: what opt itself prints is what is shipped, and a broken one is named."""

from __future__ import annotations

import shutil

import pytest
import yaml

from picoquant.backends.paddle_lite.supported_operators import ask_opt, refresh_operators
from picoquant.errors import ConfigError
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import load_target
from picoquant.targets.table import described, listing
from picoquant.yaml_files.locate import shipped


@pytest.mark.parametrize("name", ["rv1126", "arm_cpu"])
def test_shipped_lists_are_what_opt_prints(name, opt):
    lite = load_target(name).paddle_lite
    if opt.version != lite.opt_version:
        pytest.skip(f"this opt is {opt.version}, the list is of {lite.opt_version}")
    assert ask_opt(opt, lite.device, lite.valid_targets) == lite.operators.names
    assert lite.operators.opt_version == lite.opt_version


def test_what_the_npu_takes():
    takes = load_target("rv1126").paddle_lite.operators
    assert len(takes.names) == 100
    assert all(name in takes for name in ("conv2d", "depthwise_conv2d", "relu6", "hard_sigmoid", "split"))
    assert not any(name in takes for name in ("sqrt", "multiclass_nms3", "feed", "OP_name"))
    on_cpu = load_target("arm_cpu").paddle_lite.operators
    assert all(name in on_cpu for name in ("sqrt", "conv2d", "multiclass_nms3"))


def test_refresh_writes_beside_a_users_profile(opt, tmp_path):
    profile = tmp_path / "board.yaml"
    shutil.copyfile(shipped("npu_targets", "rv1126"), profile)
    (line,) = refresh_operators([str(profile)], opt)
    written = tmp_path / "operators" / "verisilicon_timvx.txt"
    assert line.startswith(f"{written}: ") and f"opt {opt.version}" in line
    assert load_target(profile).paddle_lite.operators.opt_version == opt.version
    written.write_text(written.read_text().replace("conv2d_transpose\n", "made_up\n"))
    (line,) = refresh_operators([str(profile)], opt)
    assert "+ conv2d_transpose" in line and "- made_up" in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, r"no list of operators none\.txt: neither .* nor "),
        ("bad.txt", "conv2d\n", r"bad\.txt: one line '# opt VERSION' and a line an operator expected"),
        (3, None, r"board\.yaml: paddle_lite: operators: the name of a list of operators expected, found 3"),
        ("../secret.txt", "# opt v1\nx\n", r"no list of operators \.\./secret\.txt"),
    ],
)
def test_a_bad_list_is_named(tmp_path, name, content, message):
    values = yaml.safe_load(shipped("npu_targets", "rv1126").read_text())
    values["paddle_lite"]["operators"] = name
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(values))
    if content:
        (tmp_path / "operators").mkdir()
        (tmp_path / "operators" / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_target(tmp_path / "board.yaml")


def test_tables():
    targets = [load_target(name) for name in known_targets()]
    head, *lines = listing(targets).splitlines()
    assert head.split()[0] == "target"
    vendors = [line for line in lines if not line.startswith(" ")]
    assert vendors == [*sorted({target.vendor for target in targets} - {"any"}), "any vendor"]
    groups = "\n".join(lines).split("\n  ")
    assert sorted(line.split()[0] for line in groups[1:]) == known_targets()
    place = lines.index("Rockchip")
    (line,) = [line for line in lines[place:] if line.split()[0] == "rv1126"]
    assert "2 TOPS" in line and "armhf" in line and "122.3 ms" in line
    assert line.endswith(load_target("rv1126").tried) and load_target("rv1126").tried
    shown = described(load_target("imx8mp"))
    assert "  version: 6.4.3.p1" in shown and "int8_tops: 5.0" in shown and "2.3" in shown
