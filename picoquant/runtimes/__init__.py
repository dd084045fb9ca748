"""Run any form of a model on any runtime of this machine: one interface, `predict(feed) -> outputs`."""
