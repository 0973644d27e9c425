"""Steps with too long a gradient or a loss that is not finite are left out and counted, and end the run if there are too many."""

from dataclasses import replace
from itertools import pairwise

import lightning as L
import pytest
import torch

from callbacks.ema import EMA
from datamodules import Synthetic
from harmonicrnn.errors import UserError
from harmonicrnn.models import LevelSpec
from lightning_modules import HarmonicModule, OptimizerConfig

SKIPPING = OptimizerConfig(skip_above=1e3, most_skips=3, schedule="constant", warmup_steps=0)


class Faulty(HarmonicModule):
    """Multiplies the loss of some steps, and records the weights after each step."""

    def __init__(self, factors, optimizer=SKIPPING):
        torch.manual_seed(0)
        super().__init__(optimizer, levels=[LevelSpec(8, 1, 2), LevelSpec(8, 1)], heads=2, bits=4, sample_rate=4000, dropout=0.0)
        self.factors, self.seen = factors, []

    def _nats(self, batch, stream):
        return super()._nats(batch, stream) * self.factors.get(self.global_step, 1.0)

    def on_train_batch_end(self, *_):
        self.seen.append(self.net.head.weight.detach().clone())


def fit(module, steps, ckpt_path=None, order="clips", scaling="clip", **options):
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=steps, accelerator="cpu", limit_val_batches=0, num_sanity_val_steps=0, **settings | options)
    data = Synthetic(clips=16, sample_rate=4000, bits=4, clip_samples=64, batch_size=2, num_workers=0, order=order, scaling=scaling)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("factor", [torch.nan, torch.inf, 1e9])
def test_a_step_is_left_out_counted_and_logged(factor):
    module = Faulty({2: factor})
    trainer = fit(module, 5)
    changed = [not torch.equal(a, b) for a, b in pairwise(module.seen)]
    assert changed == [True, False, True, True]
    assert trainer.callback_metrics["train/skipped_steps"] == 1
    assert (module.skipped, module.skipped_in_a_row) == (1, 0)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    # Moments and decay are unchanged: the following steps are as if this one had not been made.
    moments = trainer.optimizers[0].state[module.net.head.weight]
    assert moments["step"] == 4


def test_a_loss_that_is_not_finite_is_left_out_whatever_its_gradient():
    """Such a loss arises, for example, if the model gave the next class no probability."""

    class Infinite(Faulty):
        def _nats(self, batch, stream):
            nats = HarmonicModule._nats(self, batch, stream)
            return nats + torch.inf if self.global_step == 2 else nats

    module = Infinite({})
    fit(module, 4)
    assert torch.equal(module.seen[1], module.seen[2])
    assert not torch.equal(module.seen[2], module.seen[3])
    assert module.skipped == 1


def test_the_average_does_not_move_with_a_step_that_is_left_out():
    averages = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            (ema,) = (callback for callback in trainer.callbacks if isinstance(callback, EMA))
            averages.append(ema._average_model.module.net.head.weight.detach().clone())

    fit(Faulty({2: torch.nan}), 4, callbacks=[EMA(0.9), Watch()])
    assert [not torch.equal(a, b) for a, b in pairwise(averages)] == [True, False, True]


def test_lanes_begin_anew_after_a_loss_that_is_not_finite():
    """The carried states would make every later step not finite."""

    class Poisoned(Faulty):
        def _nats(self, batch, stream):
            nats = super()._nats(batch, stream)
            if self.global_step == 1:
                self.carried._states[stream] = self.carried._states[stream].map(lambda t: t * torch.nan if t.is_floating_point() else t)
            return nats

    module = Poisoned({1: torch.nan})
    fit(module, 5, order="sequential", scaling="none")
    assert (module.skipped, module.skipped_in_a_row) == (1, 0)


def test_too_many_in_a_row_end_the_run():
    with pytest.raises(UserError, match=r"3 steps in a row were skipped, up to step 3: .*skip_above \(1000\).*lower model.optimizer.lr"):
        fit(Faulty(dict.fromkeys(range(1, 9), torch.nan)), 8)
    fit(Faulty({1: torch.nan, 2: torch.nan, 4: torch.nan, 5: torch.nan}), 8)


def test_the_count_goes_on_after_a_checkpoint(tmp_path):
    module = Faulty({1: torch.nan, 3: torch.nan})
    trainer = fit(module, 4)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    again = Faulty({4: torch.nan})
    fit(again, 6, ckpt_path=tmp_path / "end.ckpt")
    assert (again.skipped, again.skipped_in_a_row) == (3, 0)


def test_without_a_limit_the_first_one_ends_the_run():
    with pytest.raises(UserError, match="the loss is nan at step 1"):
        fit(Faulty({1: torch.nan}, replace(SKIPPING, skip_above=None)), 3)


@pytest.mark.parametrize("settings", [{"skip_above": 0.0}, {"skip_above": float("nan")}, {"most_skips": 0}, {"warmup_steps": -1}])
def test_refuses_what_makes_no_sense(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        OptimizerConfig(**settings)
