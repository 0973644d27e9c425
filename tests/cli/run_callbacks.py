"""Callbacks that write down what a run was given and gave, and that make it stop, fail or go wrong at a known step."""

import json
import os
import random
import signal
import time
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


class StopAt(Callback):
    """Stops after the validation at step 2."""

    def on_validation_end(self, trainer, pl_module):
        trainer.should_stop = trainer.global_step == 2


class SignalAt(Callback):
    """Sends this process a signal, at each of the named `hooks` that is called when `step` steps are made, on one rank."""

    def __init__(self, step: int, name: str = "SIGTERM", hook: str = "on_before_backward", rank: int = 0) -> None:
        self.step, self.signum, self.rank = step, signal.Signals[name], rank
        setattr(self, hook, self._send)

    def _send(self, trainer, *args, **kwargs):
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)


class FaultAt(Callback):
    """Before step 2, the last rank is killed, stopped or hangs."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2 and trainer.global_rank == trainer.world_size - 1:
            if self.fault != "hangs":
                os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[self.fault])
            time.sleep(1000)


class PoisonAt(Callback):
    """From step 3 on the output of the first block's MLP is not a number."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            layer = pl_module.net.levels.pre.blocks[0].mlp
            layer.register_forward_hook(lambda module, inputs, output: output * torch.nan)


class PoisonGradientAt(Callback):
    """At step 3 the gradient of the head's weights is not a number."""

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 3:
            pl_module.net.head.weight.grad.fill_(torch.nan)
