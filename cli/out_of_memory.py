"""User messages for torch's errors on a lack of memory."""

import re

import torch


def shortage(error: BaseException) -> str | None:
    """Return a message if memory ran out or a data process was killed; None for other errors."""
    if re.search(r"DataLoader worker .*(killed by signal|exited unexpectedly)", str(error)):
        return (
            "a process that reads the data was killed, possibly by the system for lack of memory; resume with --ckpt_path last and fewer "
            "data.num_workers"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return (
            "memory ran out: use shorter clips (data.clip_samples), a smaller batch (data.batch_size), recompute: true in model.levels, "
            "or more devices"
        )
    return None
