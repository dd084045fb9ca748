"""Whether a model was written by a run of picoquant."""

from __future__ import annotations

import json

from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.storage.files import sha256
from picoquant.storage.run_folder import MANIFEST


def made_by_a_run(folder: ModelFolder) -> bool:
    """Whether a model is in a run folder whose run.json lists its files with their current SHA-256."""
    path = folder.path.absolute()
    for root in list(path.parents)[:3]:  # run/quantize, run/quantize/qat_graph, run/package/rv1126/paddle
        if not (root / MANIFEST).is_file():
            continue
        stage = root / path.relative_to(root).parts[0]
        try:
            files = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["stages"][stage.name]["files"]
            known = [
                (files[(path / file.name).relative_to(stage).as_posix()]["sha256"], sha256(file))
                for file in (folder.model, folder.params)
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return all(recorded == found for recorded, found in known)
    return False
