"""A rank that is killed, hangs or raises ends the run on all, with the rank and the reason named, and the last checkpoint whole."""

import os
import signal
import time
from datetime import timedelta

import pytest
import torch

from cli.first_rank import on_first_rank
from harmonicrnn.errors import UserError
from harmonicrnn.parallel import ContextParallelStrategy
from tests.harmonicrnn.parallel.fits import Recorded, make_data, make_trainer
from tests.harmonicrnn.parallel.ranks import Ranks

TIMEOUT_S = 5


class Faulty(Recorded):
    """Rank 1 comes to grief in its third step."""

    def __init__(self, fault):
        super().__init__(False, False)
        self.fault = fault

    def training_step(self, batch):
        if self.global_step == 2 and self.global_rank == 1:
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hangs":
                time.sleep(1000)
            raise ValueError("a string broke")
        return super().training_step(batch)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.trainer.save_checkpoint(self.trainer.default_root_dir + "/last.ckpt")


def fit_to_its_end(folder, fault):
    strategy = ContextParallelStrategy(timeout=timedelta(seconds=TIMEOUT_S))
    trainer = make_trainer(folder, 2, strategy=strategy)
    trainer.fit(Faulty(fault), datamodule=make_data(folder))


@pytest.mark.parametrize("fault", ["raises", "killed", "hangs"])
def test_the_run_ends_on_all_ranks(folder, tmp_path, fault):
    ranks = Ranks()
    (tmp_path / "music").symlink_to(folder / "music")
    (kind, trace), second = ranks.run_to_the_end(2, fit_to_its_end, tmp_path, fault, after=2)
    assert kind == "raised", trace
    if fault == "raises":
        assert second[0] == "raised"
        assert "rank 1 failed with ValueError: a string broke" in trace
    else:
        assert second[0] == {"killed": "died", "hangs": "hangs"}[fault]
        assert "rank 1 was killed or hangs: rank 0 waited for it in vain" in trace
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


def impossible(folder, context_size, data):
    trainer = make_trainer(folder, 2, strategy=ContextParallelStrategy(context_size))
    try:
        trainer.fit(Recorded(False, False), datamodule=make_data(folder, **data))
    except UserError as error:
        return str(error)
    return ""


def test_what_cannot_be_split(ranks, folder):
    for context_size, data, parts in [
        (3, {}, ["context_size (3)", "number of ranks (2"]),
        (2, {"clip_samples": 11}, ["data.clip_samples (11)", "at least 12", "pooling factors (6)", "2 ranks"]),
        (2, {"clip_samples": 18, "order": "sequential", "scaling": "file"}, ["data.clip_samples (18)", "multiple", "(6)", "2 ranks"]),
        (1, {"batch_size": 3}, ["data.batch_size (3)", "data ranks (2)"]),
    ]:
        for message in ranks.run(2, impossible, folder, context_size, data):
            assert all(part in message for part in parts), message


def test_a_context_of_no_ranks():
    with pytest.raises(UserError, match="context_size must be at least 1, got 0"):
        _ = ContextParallelStrategy(0).context_size


class Poisoned(Recorded):
    """The second rank's share of a batch is not a number, in the third step."""

    def __init__(self):
        super().__init__(False, False)

    def _nats(self, batch, stream):
        nats = super()._nats(batch, stream)
        return nats * torch.nan if self.global_step == 2 and self.global_rank == 1 else nats


def fit_poisoned(folder):
    try:
        make_trainer(folder, 2).fit(Poisoned(), datamodule=make_data(folder))
    except UserError as error:
        return str(error)
    return ""


def test_all_ranks_stop_at_what_is_not_a_number(ranks, folder):
    first, second = ranks.run(2, fit_poisoned, folder)
    assert "the loss is nan at step 2; not finite first: in another rank's share" in first
    assert "the loss is nan at step 2; not finite first: the loss itself" in second


def work_alone(folder, fails):
    """What a rank is told of work that the first one does, and whether it did it itself."""
    trainer, done = make_trainer(folder, 2), []

    def work():
        done.append(True)
        if fails:
            raise OSError("noise.wav: is no audio")

    try:
        on_first_rank(trainer, Recorded(False, False), work)
    except Exception as error:
        return type(error), str(error), done
    trainer.fit(Recorded(False, False), datamodule=make_data(folder))
    return None, "", done


def test_an_error_of_the_first_rank_alone_ends_all(ranks, folder):
    """Bad data, say, which it looks at before training; without one, all go on to train."""
    assert ranks.run(2, work_alone, folder, True) == [
        (OSError, "noise.wav: is no audio", [True]),
        (UserError, "noise.wav: is no audio", []),
    ]
    assert ranks.run(2, work_alone, folder, False) == [(None, "", [True]), (None, "", [])]
