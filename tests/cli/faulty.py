"""A callback by which one of several ranks comes to grief."""

import os
import signal
import time

from lightning.pytorch.callbacks import Callback


class FaultAt(Callback):
    """Before step 2, the last rank is killed or hangs."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2 and trainer.global_rank == trainer.world_size - 1:
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1000)
