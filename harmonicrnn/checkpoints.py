"""Checkpoints: what ours hold beside Lightning's contents, and how one is read without trusting it."""

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
"""Raised when a checkpoint of before can no longer be read."""

KEY = "harmonicrnn"
UNSEEN = "unseen_in_weights"
SHOWN = 5  # differences that an error names
OTHER_MODEL = "its architecture differs from the configured one; test it with its own run's config, or train anew"
DIGIT_ACCURACY = "digit_accuracy"
"""Where one of a digit classifier holds its accuracy on the validation and the test split; nothing between validations."""
NET = "net."
"""Begins the names of a model's weights within its module."""


class _OptimizerRecord:
    """Stands for `lightning_modules.OptimizerConfig`, which nothing that reads checkpoints has a use for."""


# What modules built by hand keep among their hyperparameters, by the names that these records have or had; whoever loads them.
torch.serialization.add_safe_globals([LevelSpec, (LevelSpec, "models.skip_block.LevelSpec"), Prediction, Predictor])
OPTIMIZER: tuple[Callable[..., Any], str] = (_OptimizerRecord, "lightning_modules.optimizer.OptimizerConfig")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU. Code inside it is never run.

    Raises:
        UserError: it is missing, cut short, carries code, or was written by another project or a later format.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        with torch.serialization.safe_globals([OPTIMIZER]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: holds more than numbers and names, or is no checkpoint; it is not loaded") from error
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise UserError(f"{path}: is cut short or damaged; take another checkpoint of the run") from error
    record = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if record is None or "state_dict" not in checkpoint:
        raise UserError(f"{path}: is not a checkpoint of this project")
    if not _has_form(checkpoint):
        raise UserError(f"{path}: is damaged: not all of it is of its kind; take another checkpoint of the run")
    if record["format"] > FORMAT:
        raise UserError(f"{path}: has format {record['format']}, this version reads up to {FORMAT}; update the code")
    bring_up_to_date(checkpoint)
    return checkpoint


def _has_form(checkpoint: dict[str, Any]) -> bool:
    """Whether what all checkpoints of ours have is names, numbers and tensors where these are expected."""
    weights = [checkpoint["state_dict"], checkpoint.get("current_model_state", {})]
    settings = [checkpoint[KEY], checkpoint.get("hyper_parameters", {}), checkpoint.get(UNSEEN, {})]
    if not all(isinstance(each, dict) and all(isinstance(name, str) for name in each) for each in (*weights, *settings)):
        return False
    tensors = [[isinstance(value, Tensor) for value in each.values()] for each in (*weights, *settings)]
    return all(map(all, tensors[:2])) and not any(map(any, tensors[2:])) and isinstance(checkpoint[KEY].get("format"), int)


def net_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the model alone, without what else its module has."""
    return {name.removeprefix(NET): value for name, value in checkpoint["state_dict"].items() if name.startswith(NET)}


def check_fits(
    checkpoint: dict[str, Any],
    module: nn.Module,
    path: Path,
    prefix: str = "",
    known: dict[str, Any] | None = None,
    advice: str = OTHER_MODEL,
) -> None:
    """Raises UserError, naming the first differences, where the checkpoint's weights are not those of the module's architecture.

    Beside names and shapes, the settings that no weight shows (`module.unseen_in_weights`, if any) must be those it was trained with.

    Args:
        checkpoint: as `read_checkpoint` gives it.
        module: takes the weights whose names begin with the prefix.
        path: of the checkpoint, for messages.
        prefix: of the weights' names.
        known: further settings that no weight shows.
        advice: what to do.
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
