"""Export of a detector as a Paddle inference model. Importing this package does not import paddle."""

from __future__ import annotations

from picoquant.paddle_program.infer_config import InferConfig, read_infer_config, write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder

__all__ = ["InferConfig", "ModelFolder", "read_infer_config", "write_infer_config"]
