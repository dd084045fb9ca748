"""Load a data set, whatever its format."""

from __future__ import annotations

from picoquant.data.dataset import Dataset
from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.voc import load_voc
from picoquant.data.settings import DatasetSettings
from picoquant.errors import ConfigError


def load_dataset(settings: DatasetSettings, training: bool) -> Dataset:
    """Load the data set that the settings describe.

    Args:
        settings: where it is, and its format.
        training: whether it is trained on (images without objects are then left out by default).

    Raises: `DataError` naming file and key; `ConfigError` for a format that holds no annotations.
    """
    loaders = {"coco": load_coco, "voc": load_voc}
    if settings.format not in loaders:
        raise ConfigError(
            f"{settings.section}: a data set of format {settings.format} cannot be trained or evaluated on; "
            f"known: {', '.join(loaders)}"
        )
    return loaders[settings.format](settings, training)
