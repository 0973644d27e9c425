"""Callback that prints a summary of a run, with estimates of memory and time, before training starts."""

import math
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from typing_extensions import override

from callbacks.run_record import run_directory
from callbacks.show import left_out, name_of
from datamodules.audio_datamodule import MEMORY
from harmonicrnn.errors import UserError
from harmonicrnn.models import undivided

PROBE_SAMPLES = 8000
STATE_BYTES = 16  # per float32 parameter: weight, gradient and AdamW's two moments


class RunSummary(Callback):
    """Print the numbers of parameters and of samples per step, and estimate memory and time from a short forward and backward pass.

    Raises UserError if a step needs more memory than the device has.
    """

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        parameters = sum(p.numel() for p in pl_module.parameters())
        rows = data.batch_size * trainer.accumulate_grad_batches
        samples = rows * data.clip_samples
        rank_zero_info(f"Model: {parameters:,} parameters, {pl_module.net.bits} bits, {pl_module.sample_rate} Hz")  # type: ignore[union-attr]
        rank_zero_info(f"Data: {data.protocol}")
        rank_zero_info(f"Step: {samples:,} samples ({rows} clips of {data.clip_samples:,})")
        for logger in trainer.loggers:
            if missing := left_out(logger):
                rank_zero_info(f"{name_of(logger)} takes no {missing}; generated clips are in {run_directory(trainer) / 'samples'}")
        steps = int(trainer.estimated_stepping_batches)
        with trainer.precision_plugin.train_step_context(), undivided(pl_module):
            kept, seconds = probe(pl_module.net, min(PROBE_SAMPLES, samples))  # type: ignore[arg-type]
        share = 1 / trainer.world_size
        memory = parameters * STATE_BYTES + kept * samples * share / trainer.accumulate_grad_batches
        rank_zero_info(f"Memory: about {memory / 2**30:.1f} GiB a device for weights, optimiser and activations")
        if memory > (there := _memory(pl_module.device)):
            raise UserError(
                f"data.clip_samples ({data.clip_samples}), data.batch_size ({data.batch_size}): a step takes more than "
                f"{memory / 2**30:,.1f} GiB a device, which has {there / 2**30:.1f}; lower them, set recompute: true in model.levels, or "
                "use more devices"
            )
        time_needed = in_words(seconds * samples * share * steps)
        rank_zero_info(f"Time: about {time_needed} for {steps:,} steps at {1 / seconds / share:,.0f} samples/s, validation not counted")


def in_words(seconds: float) -> str:
    """Format a duration as seconds, minutes or hours."""
    if seconds < 99.5:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def probe(net: nn.Module, samples: int) -> tuple[float, float]:
    """Return the bytes kept for the backward pass and the seconds of a forward and backward pass, both per sample.

    Gradients and random states are not changed.
    """
    classes = torch.zeros(1, samples, dtype=torch.long, device=next(net.parameters()).device)
    parameters = [p for p in net.parameters() if p.requires_grad]
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    seconds = 0.0
    with torch.random.fork_rng([classes.device] if classes.is_cuda else []):  # dropout uses random numbers
        for _ in range(2):  # the first pass also compiles
            held.clear()
            started = _now(classes)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = net.nats(classes)[0].mean()
            if parameters:
                torch.autograd.grad(loss, parameters)
            seconds = _now(classes) - started
    return sum(size for pointer, size in held.items() if pointer not in own) / samples, seconds / samples


def _memory(device: torch.device) -> float:
    """Return the total memory of a device in bytes; infinity if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return MEMORY if device.type == "cpu" else math.inf


def _now(tensor: Any) -> float:
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
