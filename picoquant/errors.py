"""The errors a user may see. The command line prints each as one line and exits with its code."""


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
