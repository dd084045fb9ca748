"""PicoDet as a library: network, losses, assigners and weights; knows nothing of the pipeline."""
