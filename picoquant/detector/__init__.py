"""PicoDet as a library: network, losses, assigners and weights; imports nothing of the pipeline."""
