"""Callbacks that record a run's batches and losses, or make it stop or fail at a known step."""

import json
import os
import random
import signal
import time
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback


class Record(Callback):
    """Appends the step, clips and loss, and two random numbers drawn after the step, to `record_RANK.jsonl`."""

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
    """Raises RuntimeError in the middle of a step, after `step` complete ones."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


class StopAt(Callback):
    """Stops after the validation at step 2."""

    def on_validation_end(self, trainer, pl_module):
        trainer.should_stop = trainer.global_step == 2


class SignalAt(Callback):
    """Sends this process a signal from the given `hook` once `step` steps are done, on one rank."""

    def __init__(self, step: int, name: str = "SIGTERM", hook: str = "on_before_backward", rank: int = 0) -> None:
        self.step, self.signum, self.rank = step, signal.Signals[name], rank
        setattr(self, hook, self._send)

    def _send(self, trainer, *args, **kwargs):
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)


class FaultAt(Callback):
    """Kills, stops or hangs the last rank before step 2."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2 and trainer.global_rank == trainer.world_size - 1:
            if self.fault != "hangs":
                os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[self.fault])
            time.sleep(1000)


class PoisonAt(Callback):
    """Makes the output of the first block's MLP NaN from step 3 on."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            layer = pl_module.net.levels.pre.blocks[0].mlp
            layer.register_forward_hook(lambda module, inputs, output: output * torch.nan)


class PoisonGradientAt(Callback):
    """Makes the gradient of the head's weights NaN at step 3."""

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 3:
            pl_module.net.head.weight.grad.fill_(torch.nan)
