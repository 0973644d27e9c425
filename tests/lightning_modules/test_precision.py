"""Compares training in mixed precision with float32."""

import lightning as L
import pytest
import torch

from datamodules import Synthetic
from harmonicrnn.models import LevelSpec
from lightning_modules import HarmonicModule, OptimizerConfig

STEPS, AVERAGED = 200, 20


class Curve(L.Callback):
    """Records the loss of every step, in bits/sample."""

    def __init__(self):
        self.bits = []

    def on_train_batch_end(self, trainer, *args):
        self.bits.append(trainer.callback_metrics["train/bits"].item())


def curve(folder, precision):
    torch.manual_seed(0)
    module = HarmonicModule(OptimizerConfig(lr=4e-3), preset="griffin", levels=[LevelSpec(16, 1, 4), LevelSpec(16, 1)], heads=2, groups=2)
    seen = Curve()
    data = Synthetic(clips=64, clip_samples=480, batch_size=4, num_workers=0)
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    options |= {"accelerator": "cpu", "devices": 1, "logger": False, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    trainer = L.Trainer(default_root_dir=folder, max_steps=STEPS, precision=precision, gradient_clip_val=1.0, callbacks=[seen], **options)
    trainer.fit(module, datamodule=data)
    return torch.tensor(seen.bits)


@pytest.mark.slow
def test_losses_in_bfloat16_are_within_a_hundredth_of_float32(tmp_path):
    """Runs two trainings of 200 steps on synthetic music and compares means of 20 steps; test_triton_cuda.py does the same on a GPU."""
    exact, mixed = (curve(tmp_path, precision).view(-1, AVERAGED).mean(dim=1) for precision in ("32-true", "bf16-mixed"))
    assert exact[-1] < 0.8 * exact[0]  # it learns
    assert not torch.equal(exact, mixed)
    assert ((mixed - exact).abs() / exact).max() < 0.01, (exact, mixed)
