"""Loading of modules and voices from checkpoints of any autoregressive module."""

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
    """Load the autoregressive module of a checkpoint on the CPU.

    Raises:
        UserError: the checkpoint cannot be used, or is not of an autoregressive module.
    """
    settings = read_checkpoint(path)["hyper_parameters"]
    name = current(settings.get("_class_path", "lightning_modules.HarmonicModule"))
    place, _, kind = name.rpartition(".")
    # A checkpoint must not cause an import: only modules imported already are used.
    found = getattr(sys.modules.get(place), kind, None)
    if not (isinstance(found, type) and issubclass(found, AutoregressiveModule)):
        raise UserError(f"{path}: is of {name}, which is no autoregressive model, or whose module must be imported first")
    # Lightning builds the module before on_load_checkpoint can convert old settings.
    brought_up_to_date = {key: settings[key] for key in ("preset", "embedding") if key in settings}
    return found.load_from_checkpoint(path, map_location="cpu", **brought_up_to_date)


def load_voice(path: Path, scaling: Scaling | None = None, device: str | torch.device = "cpu") -> Voice:
    """Load a voice as `harmonicrnn.load` does, with the model of any autoregressive module.

    Raises:
        UserError: the checkpoint cannot be used, or is not of an autoregressive module.
    """
    return load(path, scaling, device, load_module(path).net)
