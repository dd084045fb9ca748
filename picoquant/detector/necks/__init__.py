"""Necks: turn a backbone's feature maps into one map per stride, all with the same number of channels."""
