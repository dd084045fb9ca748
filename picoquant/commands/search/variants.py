"""A recipe with some of its settings changed, for the run and for a trial's own folder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from picoquant.commands.search.course import METHOD, Values, space_of
from picoquant.config.schema import schema
from picoquant.stages.plan import Plan
from picoquant.stages.run_models import fp32_model
from picoquant.stages.stage import Context
from picoquant.storage.run_folder import RunFolder
from picoquant.yaml_files.load import dump_yaml
from picoquant.yaml_files.overrides import apply_overrides


class Variants:
    """Makes them from the run's own recipe.

    Args:
        context: of the run, which has an FP32 model.

    Raises: as `fp32_model`.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._model = context, fp32_model(context)
        self.space = space_of(context.plan)

    def texts(self, values: Values) -> tuple[str, ...]:
        """`KEY.SUB=VALUE` texts that change the recipe to these settings; none for its own."""
        own = self.space.own
        changed = ((key, value) for key, value in values.items() if value != own[key])
        return tuple(f"{key}={dump_yaml(value).splitlines()[0]}" for key, value in changed)

    def label(self, values: Values) -> str:
        """A short name of settings, for a folder: the method, and what the recipe says otherwise."""
        texts = [text for text in self.texts(values) if not text.startswith(METHOD)]
        return "-".join([values[METHOD], *(text.split(".", 1)[1].replace("=", "-") for text in texts)])

    def of_run(self, texts: Sequence[str]) -> Context:
        """The run with changed settings."""
        recipe = self._context.plan.recipe
        document = copy.deepcopy(dict(recipe.document))
        apply_overrides(document, texts, schema())
        return replace(self._context, plan=Plan(replace(recipe, document=document)))

    def in_folder(self, values: Values, run: RunFolder) -> Context:
        """Changed settings in another run folder.

        Its recipe names the FP32 model, so that the folder is a run of its own. Data sets that were read are shared.
        """
        recipe = self.of_run(self.texts(values)).plan.recipe
        named = {
            "weights": None,
            "model_dir": str(Path(self._model.path).resolve()),
            "model_filename": self._model.model.name,
            "params_filename": self._model.params.name,
        }
        if not self._context.plan.common.model_dir:
            named["input_size"] = None  # it is the model's, which may have been exported from other settings
        document = {**recipe.document, "Global": {**recipe.document["Global"], **named}}
        return replace(
            self._context, plan=Plan(replace(recipe, document=document, named=frozenset())), run=run
        )
