"""Run work on the first rank while the other ranks wait."""

from collections.abc import Callable
from datetime import timedelta

import lightning as L
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment

from harmonicrnn.errors import UserError

PATIENCE = timedelta(days=30)  # reading a large dataset for the first time takes hours


def on_first_rank(trainer: L.Trainer, module: L.LightningModule, work: Callable[[], None]) -> None:
    """Run `work` on the first rank.

    If torchrun or SLURM started the ranks, the others wait until it is done, and fail if it fails. Ranks started by Lightning do not exist
    yet.

    Raises:
        UserError: on the other ranks, with the message of the first rank's error of any type.
    """
    strategy = trainer.strategy
    environment = getattr(strategy, "cluster_environment", None)
    if trainer.world_size == 1 or environment is None or isinstance(environment, LightningEnvironment):
        if trainer.is_global_zero:
            work()
        return
    strategy.connect(module)
    strategy.setup_environment()
    group, failed = dist.new_group(backend="gloo", timeout=PATIENCE), None
    if trainer.is_global_zero:
        try:
            work()
        except Exception as error:
            failed = error
    told = [None if failed is None else str(failed)]
    dist.broadcast_object_list(told, src=0, group=group)
    if failed is not None:
        raise failed
    if told[0] is not None:
        raise UserError(told[0])
