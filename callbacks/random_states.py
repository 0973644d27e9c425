"""Callback that saves the states of the random number generators, and restores them when training is resumed."""

import random
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

RANDOM_STATES = "random_states"


class RandomStates(Callback):
    """Save the states of Python's and torch's generators (CPU and CUDA) of every rank, and restore them when training is resumed.

    A rank without a saved state keeps its own. Data and audio samples do not use these generators.
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
        checkpoint[RANDOM_STATES] = gathered

    @override
    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved = checkpoint.get(RANDOM_STATES, [])

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # With trainer.max_epochs, Lightning creates the loader before it reads the loader's state, and then does not restore it.
        trainer.fit_loop._load_combined_loader_states()
        if trainer.global_rank >= len(self._saved):
            return
        states = self._saved[trainer.global_rank]
        random.setstate(states["python"])
        torch.set_rng_state(states["torch"])
        if "cuda" in states and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], pl_module.device)
