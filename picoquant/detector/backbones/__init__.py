"""Backbones: image in, feature maps out, finest first."""
