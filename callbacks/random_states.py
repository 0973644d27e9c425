"""The states of the random number generators, so that a continued run draws what it would have drawn."""

import random
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

KEY = "random_states"


class RandomStates(Callback):
    """Saves Python's and torch's generators (the device's too) of every rank, and restores them when training goes on.

    A rank that there was none of before goes on with its own. Data and samples do not draw from these generators.
    """

    def __init__(self) -> None:
        self._saved: list[dict[str, Any]] = []

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        states = {"python": random.getstate(), "torch": torch.get_rng_state()}
        if pl_module.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(pl_module.device)
        gathered: list[Any] = [states]
        if trainer.world_size > 1:
            gathered = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, states)
        checkpoint[KEY] = gathered

    @override
    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved = checkpoint.get(KEY, [])

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Where steps are counted in epochs Lightning makes the loader before it has read where in the data to go on, and then forgets to.
        trainer.fit_loop._load_combined_loader_states()
        if trainer.global_rank >= len(self._saved):
            return
        states = self._saved[trainer.global_rank]
        random.setstate(states["python"])
        torch.set_rng_state(states["torch"])
        if "cuda" in states and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], pl_module.device)
