"""Freeze parts of a network during training."""

from __future__ import annotations

from paddle import nn

from picoquant.training.settings import TrainSettings


def freeze(model: nn.Layer, settings: TrainSettings) -> None:
    """Make the parameters that `settings` freezes untrainable; call it before the optimiser is created."""
    frozen = list(model.backbone.parameters()) if settings.freeze_backbone else []
    for layer in _frozen_batch_norms(model, settings):
        frozen += layer.parameters()
    for value in frozen:
        value.trainable = False


def train_mode(model: nn.Layer, settings: TrainSettings) -> None:
    """Put the network into training mode, its frozen batch norms into evaluation mode."""
    model.train()
    for layer in _frozen_batch_norms(model, settings):
        layer.eval()


def _frozen_batch_norms(model: nn.Layer, settings: TrainSettings) -> list[nn.Layer]:
    """Batch norms whose statistics and parameters are not updated."""
    if settings.freeze_batch_norm:
        layers = model.sublayers()
    else:
        layers = model.backbone.sublayers() if settings.freeze_backbone else []
    return [layer for layer in layers if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm))]
