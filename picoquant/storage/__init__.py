"""Files, checkpoints, downloads and the run folder."""
