"""Batch norm over the images of all processes on CPU, where Paddle has no synchronised one."""
