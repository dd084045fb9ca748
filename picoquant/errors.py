"""The errors a user may see. The command line prints each as one line and exits with its code."""

from __future__ import annotations

import struct

# The page with what picoquant does not do; an error for such a thing ends with it.
NOT_SUPPORTED = "see docs/files_of_others.md#not-supported"


class PicoquantError(Exception):
    """A failure of ours (exit code 1): something that should have worked did not."""

    exit_code = 1


class UserError(PicoquantError):
    """Bad input (exit code 2): the message names the file, key or image, and says what to do."""

    exit_code = 2


class ConfigError(UserError):
    """A recipe, configuration or `--set` that cannot be used."""


class DataError(UserError):
    """Annotations or images that cannot be used."""


class WeightsError(UserError):
    """Weights or an exported model that do not fit."""


class ToolError(UserError):
    """A tool outside this package (Paddle Lite's opt, paddle2onnx) that is missing or refused a model."""


class SchemeError(ToolError):
    """An INT8 network whose numbers a toolchain's files cannot hold."""


def in_one_line(error: Exception) -> str:
    """What to say of an error beside other results: a user's message as it is, of any other its kind, too."""
    if isinstance(error, UserError):
        return str(error)
    return f"failed ({type(error).__name__}: {' '.join(str(error).split())[:300]})"


def reason_of(error: BaseException) -> str:
    """Why a file cannot be read, ` (…)` for the end of a message; empty where an exception tells programmers alone.

    Args:
        error: what a library or Python raised while it read the file.
    """
    if isinstance(error, OSError):
        text = error.strerror or ""
    elif isinstance(error, UnicodeDecodeError):
        text = (
            f"no {error.encoding.upper()} text: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
        )
    elif isinstance(error, RecursionError):
        text = "nested too deep"
    elif isinstance(
        error, (AttributeError, TypeError, LookupError, AssertionError, MemoryError, struct.error)
    ):
        text = ""
    else:
        text = " ".join(str(error).split())[:200]
        text = "" if text.startswith(("invalid literal", "could not convert")) else text
    return f" ({text})" if text else ""
