"""Callbacks that write down what a run was given and gave, and that kill it."""

import json
import random
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback


class Record(Callback):
    """Appends number, clips and loss of each step, and two random numbers drawn after it, to `record_RANK.jsonl`."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        with Path(f"record_{trainer.global_rank}.jsonl").open("a") as file:
            row = {
                "step": trainer.global_step,
                "clips": batch.clip.tolist(),
                "loss": outputs["loss"].item(),
                "draws": [torch.rand(1).item(), random.random()],
            }
            print(json.dumps(row), file=file)


class Kill(Callback):
    """Ends the program in the middle of a step, after `step` whole ones."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == self.step:
            raise RuntimeError("killed")
