"""Find the cause of a failure in the output of another program."""

from __future__ import annotations

import re

# `[F 11/21 5:04:52.610 …/cpp_op_desc.cc:51 GetAttr] message`, glog's and Paddle Lite's form.
_LOG_LINE = re.compile(r"^\[?\s*([FEWIV\d])\s*\d[^\]]*\]\s*(.*)$")
_NOISE = re.compile(
    r"^\s*\*\*\*|backtrace|stack trace|^\s*@\s|core dumped|terminate called|^-+$|C\+\+ Traceback|^\d+ {2,}\S"
    r"|Error Message Summary|\[(Signal|Time)Info:",
    re.I,
)


def blame(text: str) -> str:
    """The one message of a program's output that names the cause of its failure; empty if there is none.

    The first fatal line of the log is preferred, then the last error line, then the last line of other text.
    """
    by_level: dict[str, list[str]] = {"F": [], "E": []}
    plain = []
    for line in text.splitlines():
        logged = _LOG_LINE.match(line)
        if logged and logged.group(1) in by_level:
            by_level[logged.group(1)].append(logged.group(2).strip())
        elif not logged and line.strip() and not _NOISE.search(line):
            plain.append(line.strip())
    # The first fatal line is the cause; those after it follow from it while the program ends.
    for message in by_level["F"][:1] + by_level["E"][-1:] + plain[-1:]:
        if message:
            return message
    return ""
