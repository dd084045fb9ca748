"""The version of picoquant."""

__version__ = "0.1.0"
