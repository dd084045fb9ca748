"""Pruning in a training: filters removed before it, weights held at 0 during it, and the files that say so."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picoquant.detector.settings import DetectorSettings
from picoquant.errors import ConfigError
from picoquant.pruning.record import write_record
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings
from picoquant.storage.files import write_text
from picoquant.weight_files.files import read_weights

if TYPE_CHECKING:
    from picoquant.pruning.sparsifier import Sparsifier

LOG = logging.getLogger("picoquant")

SPARSITY = "sparsity.csv"
_WEIGHTS = ("best.pdparams", "last.pdparams")


class Pruned:
    """What pruning does in a training.

    Args:
        filters: section `Pruner`; None: no filters are removed.
        weights: section `UnstructuredPruner`; None: no weights become 0.
    """

    def __init__(self, filters: PrunerSettings | None, weights: UnstructuredPrunerSettings | None) -> None:
        self._filters, self._weights = filters, weights
        self._record: tuple[Any, Any, Any] | None = None
        self._masks: Sparsifier | None = None

    def remove_filters(
        self,
        model: Any,
        detector: DetectorSettings,
        size: tuple[int, int],
        weights: Path | None,
        smaller: bool = True,
    ) -> None:
        """Make the network smaller as section `Pruner` says, and keep what its weights' record holds.

        Args:
            model: with the weights that training starts from; one that is smaller than its settings say keeps a record.
            detector: its settings.
            size: height and width of its input, pixels.
            weights: the file of these weights; None: none were loaded.
            smaller: whether the network may be smaller than its settings say.

        Raises: `ConfigError` for weights drawn at random, or as `pruning.filters.remove.remove_filters`.
        """
        settings = self._filters
        if settings is None and not smaller:
            return
        from picoquant.pruning.filters.remove import remove_filters, shapes_of
        from picoquant.summary import summarise

        if settings is None:
            full = _full(detector, model)
            if full is not None:
                self._record = (shapes_of(model), {}, [summarise(one, size).macs for one in (full, model)])
            return
        _require_trained("Pruner", weights)
        before = summarise(model, size)
        removed = remove_filters(model, settings)
        after = summarise(model, size)
        for one in removed:
            LOG.info("prune: %s: %d of %d filters stay", one.name, one.after, one.before)
        LOG.info(
            "prune: %s: MACs %.1f M before, %.1f M after (-%.1f %%); parameters %d before, %d after",
            settings.criterion,
            before.macs / 1e6,
            after.macs / 1e6,
            100 * (1 - after.macs / before.macs),
            before.parameters,
            after.parameters,
        )
        counts = {one.name: [one.before, one.after] for one in removed}
        self._record = (shapes_of(model), counts, [before.macs, after.macs])

    def masks(self, model: Any, epochs: int, updates: int, weights: Path | None) -> Sparsifier | None:
        """What holds weights at 0 as section `UnstructuredPruner` says; None without it.

        Args:
            model: in training.
            epochs: of the training.
            updates: of the weights in each.
            weights: the file of the weights that training starts from; None: none were loaded.

        Raises: `ConfigError` for weights drawn at random, or as `pruning.sparsifier.Sparsifier`.
        """
        settings = self._weights
        if settings is None:
            return None
        from picoquant.pruning.sparsifier import Sparsifier

        _require_trained("UnstructuredPruner", weights)
        self._masks = Sparsifier(model, settings, epochs, updates)
        return self._masks

    def write(self, out: Path) -> dict[str, Any]:
        """Write what a later command needs beside the weights, and the sparsity of each layer.

        Args:
            out: the stage's folder, with the weights.

        Returns: the numbers, JSON-able.
        """
        numbers: dict[str, Any] = {}
        if self._record is not None:
            for name in _WEIGHTS:
                if (out / name).is_file():
                    write_record(out / name, *self._record)
            numbers["macs_before_pruning"], numbers["macs"] = self._record[2]
        if self._masks is not None:
            layers = self._masks.layers(read_weights(out / _WEIGHTS[0]))
            for one in layers:
                LOG.info(
                    "prune: %s %s: %.2f %% of %d are 0",
                    one.name,
                    list(one.shape),
                    100 * one.part,
                    one.weights,
                )
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            table.writerow(["layer", "shape", "weights", "zeros", "sparsity"])
            for one in layers:
                shape = "x".join(map(str, one.shape))
                table.writerow([one.name, shape, one.weights, one.zeros, f"{one.part:.6f}"])
            write_text(out / SPARSITY, text.getvalue())
            numbers["sparsity"] = sum(one.zeros for one in layers) / sum(one.weights for one in layers)
        return numbers


def _require_trained(section: str, weights: Path | None) -> None:
    if weights is None:
        raise ConfigError(
            f"{section}: pruning needs trained weights, and pretrain_weights is null; name a file of the whole detector"
        )
    if not any(name.startswith("head.") for name in read_weights(weights)):
        raise ConfigError(
            f"{section}: pruning needs the whole detector's trained weights, and pretrain_weights, {weights}, are a "
            "backbone's alone"
        )


def _full(detector: DetectorSettings, model: Any) -> Any:
    """The network as the settings say it, where `model` is smaller; else None."""
    from picoquant.detector.build import build_picodet

    full = build_picodet(detector)
    shapes = {name: value.shape for name, value in full.state_dict().items()}
    same = all(shapes[name] == value.shape for name, value in model.state_dict().items())
    return None if same else full
