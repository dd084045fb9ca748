"""Paddle Lite: opt, the .nb, the runtime on x86."""
