"""Reads and checks checkpoints safely: no code inside them is run."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harmonicrnn.errors import UserError
from harmonicrnn.models import LevelSpec, Prediction
from harmonicrnn.old_names import bring_up_to_date
from harmonicrnn.ops.prediction import Predictor

FORMAT = 1
"""Version of the checkpoint format, incremented when older checkpoints can no longer be read."""

KEY = "harmonicrnn"
UNSEEN = "unseen_in_weights"
SHOWN = 5  # differences listed in an error
OTHER_MODEL = "its architecture differs from the configured one; test it with its own run's config, or train anew"
DIGIT_ACCURACY = "digit_accuracy"
"""Key of a digit classifier's accuracy on the validation and test splits; absent between validations."""
NET = "net."
"""Prefix of the model's weights in its Lightning module."""


class _OptimizerRecord:
    """Placeholder for `lightning_modules.OptimizerConfig`, which readers of checkpoints do not need."""


# Records stored in hyperparameters by modules built by hand, under their current and former names.
torch.serialization.add_safe_globals([LevelSpec, (LevelSpec, "models.skip_block.LevelSpec"), Prediction, Predictor])
OPTIMIZER: tuple[Callable[..., Any], str] = (_OptimizerRecord, "lightning_modules.optimizer.OptimizerConfig")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the contents of a checkpoint, on the CPU. Code inside it is never run.

    Raises:
        UserError: it is missing, cut short, contains code, or was written by another project or a later format.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        with torch.serialization.safe_globals([OPTIMIZER]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: holds more than numbers and names, or is no checkpoint; it is not loaded") from error
    except Exception as error:  # a damaged file can raise any error
        raise UserError(f"{path}: is cut short or damaged; take another checkpoint of the run") from error
    record = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if record is None or "state_dict" not in checkpoint:
        raise UserError(f"{path}: is not a checkpoint of this project")
    if not _has_form(checkpoint):
        raise UserError(f"{path}: is damaged: it has entries of the wrong type; take another checkpoint of the run")
    if record["format"] > FORMAT:
        raise UserError(f"{path}: has format {record['format']}, this version reads up to {FORMAT}; update the code")
    bring_up_to_date(checkpoint)
    return checkpoint


def _has_form(checkpoint: dict[str, Any]) -> bool:
    """Returns whether the required entries are names, numbers and tensors where expected."""
    weights = [checkpoint["state_dict"], checkpoint.get("current_model_state", {})]
    settings = [checkpoint[KEY], checkpoint.get("hyper_parameters", {}), checkpoint.get(UNSEEN, {})]
    if not all(isinstance(each, dict) and all(isinstance(name, str) for name in each) for each in (*weights, *settings)):
        return False
    tensors = [[isinstance(value, Tensor) for value in each.values()] for each in (*weights, *settings)]
    return all(map(all, tensors[:2])) and not any(map(any, tensors[2:])) and isinstance(checkpoint[KEY].get("format"), int)


def net_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of the model, without those of the rest of its module."""
    return {name.removeprefix(NET): value for name, value in checkpoint["state_dict"].items() if name.startswith(NET)}


def check_fits(
    checkpoint: dict[str, Any],
    module: nn.Module,
    path: Path,
    prefix: str = "",
    known: dict[str, Any] | None = None,
    advice: str = OTHER_MODEL,
) -> None:
    """Raises UserError, listing the first differences, if the checkpoint's weights do not fit the module's architecture.

    Compares names, shapes, and the settings that weights do not show (`module.unseen_in_weights`, if any).

    Args:
        checkpoint: as returned by `read_checkpoint`.
        module: the module to load weights into.
        path: of the checkpoint, for messages.
        prefix: of the weights' names in the checkpoint.
        known: further settings that weights do not show.
        advice: what to do, for messages.
    """
    saved = {name: value for name, value in checkpoint["state_dict"].items() if name.startswith(prefix)}
    own = {prefix + name: value for name, value in module.state_dict().items()}
    found, unseen = checkpoint.get(UNSEEN, {}), getattr(module, "unseen_in_weights", {}) | (known or {})
    wrong = [f"has no weights for {name}" for name in own if name not in saved]
    shapes = [(name, tuple(saved[name].shape), tuple(value.shape)) for name, value in own.items() if name in saved]
    wrong += [f"{name} has shape {theirs}, the model's {ours}" for name, theirs, ours in shapes if theirs != ours]
    wrong += [f"was trained with {key} {found.get(key)}, configured is {value}" for key, value in unseen.items() if found.get(key) != value]
    wrong += [f"has weights for {name}, which the model lacks" for name in saved if name not in own]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(f"{path}: {'; '.join(wrong[:SHOWN])}{more}: {advice}")
