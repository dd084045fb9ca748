"""Training of rounded networks on oneDNN's primitives, without Paddle's operators (`training.onednn`)."""
