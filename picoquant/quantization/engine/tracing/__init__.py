"""What of the engine builds operators of a static graph: Paddle's kernels that round, and what gradients need."""
