"""Changes to the static graphs of training steps, for speed."""
