"""Builds HarmonicRNN from the hyperparameters of a checkpoint or of a voice."""

import re
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.models import HarmonicRNN, LevelSpec, Prediction
from harmonicrnn.old_names import current
from harmonicrnn.ops.prediction import Predictor

HARMONIC = "lightning_modules.HarmonicModule"
ROOM = 100
"""A model with this many times the stored weights cannot be theirs, despite the rough count."""
TRAINING = ("optimizer", "init_from", "sample_rate", "law")
"""Hyperparameters of the module that its model does not take."""


def build_model(settings: dict[str, Any], path: Path, weights: dict[str, Tensor]) -> HarmonicRNN:
    """Builds the untrained model that a checkpoint's hyperparameters describe, if its size fits the weights.

    Args:
        settings: the hyperparameters.
        path: of the checkpoint, for messages.
        weights: its tensors by their names.

    Raises:
        UserError: they describe another model, or none that has about as many weights.
    """
    accepted = signature(HarmonicRNN).parameters
    strange = [key for key in settings if key not in {*accepted, *TRAINING} and not key.startswith("_")]
    if (kind := class_of(settings)) != HARMONIC or strange:
        what = kind if kind != HARMONIC else f"a model with {', '.join(strange)}"
        raise UserError(f"{path}: is of {what}, which is not known here: build its model, and pass it to load(path, net=...)")
    own = {key: value for key, value in settings.items() if key in accepted}
    try:
        if own.get("levels"):
            own["levels"] = [LevelSpec(**level) if isinstance(level, dict) else level for level in own["levels"]]
        if isinstance(own.get("prediction"), dict):
            own["prediction"] = _prediction(**own["prediction"])
        factors = [own.get(key) or 1 for key in ("expansion", "recurrence_expansion", "conv_width")]
        most = ROOM * sum(weight.numel() for weight in weights.values())
        for level in own.get("levels") or ():  # before building it, which could exceed the memory
            if level.width**2 * max(level.depth, 1) * max(*factors, level.factor) > most:
                raise ValueError(f"{level} would have many more weights than there are")
        return HarmonicRNN(**own)
    except Exception as error:  # damaged settings can raise any error
        raise UserError(f"{path}: its hyperparameters describe no HarmonicRNN: {error}") from error


def _prediction(predictors: Sequence[Predictor | dict[str, Any]] | None = None, **settings: Any) -> Prediction:
    """Builds a Prediction from hyperparameters, as written by the command line."""
    records = tuple(Predictor(**each) if isinstance(each, dict) else each for each in predictors or ())
    return Prediction(None if predictors is None else records, **settings)


def class_of(settings: dict[str, Any]) -> str:
    """Returns the class path of a checkpoint's module, as users write it; by default that of HarmonicRNN's module."""
    return re.sub(r"^lightning_modules\..*\.", "lightning_modules.", current(str(settings.get("_class_path", HARMONIC))))
