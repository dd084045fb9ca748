"""What the log of another program says was wrong."""

from __future__ import annotations

from picoquant.utils.program_log import blame


def test_blame_takes_the_first_fatal_line_then_the_last_error_then_the_last_line():
    text = (
        "Loading model\n[I 11/21  5:04:52.1 /a/b.cc:3 Run] fine\n[E 11/21  5:04:52.2 /a/b.cc:4 Run] odd\n"
        "[F 11/21  5:04:52.6 /a/cpp_op_desc.cc:51 GetAttr] No attributes called threshold found for relu6\n"
        "[F 11/21  5:04:52.7 /a/b.cc:5 Run] giving up\nAborted (core dumped)\n"
    )
    assert blame(text) == "No attributes called threshold found for relu6"
    assert blame("\n".join(line for line in text.splitlines() if "[F" not in line)) == "odd"
    assert blame("first\nsecond\n*** Aborted at 1\n") == "second"
    assert blame("") == ""
    crash = """------------------
C++ Traceback (most recent call last):
------------------
0   paddle2onnx::export(char const*)
1   paddle2onnx::Parser::Init()

----------------------
Error Message Summary:
----------------------
FatalError: `Segmentation fault` is detected by the operating system.
  [TimeInfo: *** Aborted at 1 (unix time) try "date -d @1" if you are using GNU date ***]
  [SignalInfo: *** SIGSEGV (@0x0) received by PID 1 (TID 0x1) from PID 0 ***]
"""
    assert blame(crash) == "FatalError: `Segmentation fault` is detected by the operating system."
