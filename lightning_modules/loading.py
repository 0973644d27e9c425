"""The module that a checkpoint was made by."""

import sys
from pathlib import Path

import torch

from harmonicrnn.audio import Scaling
from harmonicrnn.checkpoints import read_checkpoint
from harmonicrnn.errors import UserError
from harmonicrnn.old_names import current
from harmonicrnn.voice import Voice, load
from lightning_modules.autoregressive_module import AutoregressiveModule


def load_module(path: Path) -> AutoregressiveModule:
    """The autoregressive module of a checkpoint with its weights, on the CPU.

    Raises:
        UserError: the checkpoint cannot be used, or was made by something else.
    """
    settings = read_checkpoint(path)["hyper_parameters"]
    name = current(settings.get("_class_path", "lightning_modules.HarmonicModule"))
    place, _, kind = name.rpartition(".")
    # Nothing is imported because a checkpoint says so.
    found = getattr(sys.modules.get(place), kind, None)
    if not (isinstance(found, type) and issubclass(found, AutoregressiveModule)):
        raise UserError(f"{path}: is of {name}, which is no autoregressive model, or whose module must be imported first")
    # Lightning builds the module before it knows how old the checkpoint is.
    brought_up_to_date = {key: settings[key] for key in ("preset", "embedding") if key in settings}
    return found.load_from_checkpoint(path, map_location="cpu", **brought_up_to_date)


def load_voice(path: Path, scaling: Scaling | None = None, device: str | torch.device = "cpu") -> Voice:
    """As `harmonicrnn.load`, for the models of all modules.

    Raises:
        UserError: the checkpoint cannot be used, or was made by something else.
    """
    return load(path, scaling, device, load_module(path).net)
