"""The passes of post-training quantisation: each a function from a `PtqState` to the next."""
