"""Parts of a network that training leaves as they are."""

from __future__ import annotations

from paddle import nn

from picoquant.training.settings import TrainSettings


def freeze(model: nn.Layer, settings: TrainSettings) -> None:
    """Take the parameters that `settings` freezes out of the training; call it before an optimiser is made."""
    frozen = list(model.backbone.parameters()) if settings.freeze_backbone else []
    for layer in _still_norms(model, settings):
        frozen += layer.parameters()
    for value in frozen:
        value.trainable = False


def train_mode(model: nn.Layer, settings: TrainSettings) -> None:
    """Put the network in training mode, its frozen batch norms in evaluation mode."""
    model.train()
    for layer in _still_norms(model, settings):
        layer.eval()


def _still_norms(model: nn.Layer, settings: TrainSettings) -> list[nn.Layer]:
    """Batch norms whose statistics and parameters stay."""
    if settings.freeze_batch_norm:
        layers = model.sublayers()
    else:
        layers = model.backbone.sublayers() if settings.freeze_backbone else []
    return [layer for layer in layers if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm))]
