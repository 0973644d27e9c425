"""A rank that is killed, hangs or raises ends the run on all ranks, with the rank and the reason named and the last checkpoint intact."""

import os
import signal
import subprocess
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
WHAT = {
    "raises": "failed with ValueError: a string broke",
    "killed": "was killed or is stopped: rank {} waited for it in vain",
    "stopped": "was killed or is stopped: rank {} waited for it in vain",
    "hangs": "hangs: rank {} waited for it in vain",
}


class Faulty(Recorded):
    """Makes one rank fail in its third step."""

    def __init__(self, fault, culprit):
        super().__init__(False, False)
        self.fault, self.culprit = fault, culprit

    def training_step(self, batch):
        if self.global_step == 2 and self.global_rank == self.culprit:
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hangs":
                time.sleep(1000)
            if self.fault == "raises":
                raise ValueError("a string broke")
            if self.fault:
                seconds = {"stopped": 3 * TIMEOUT_S, "stopped for a while": TIMEOUT_S / 2}[self.fault]
                subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"])
                os.kill(os.getpid(), signal.SIGSTOP)
        return super().training_step(batch)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.trainer.save_checkpoint(self.trainer.default_root_dir + "/last.ckpt")


def fit_to_its_end(folder, size, fault, culprit):
    strategy = ContextParallelStrategy(timeout=timedelta(seconds=TIMEOUT_S))
    trainer = make_trainer(folder, size, strategy=strategy)
    module = Faulty(fault, culprit)
    trainer.fit(module, datamodule=make_data(folder))
    return module.state_dict()


@pytest.fixture
def place(folder, tmp_path):
    """Returns a folder with the same recordings and no checkpoint."""
    (tmp_path / "music").symlink_to(folder / "music")
    return tmp_path


@pytest.fixture
def over_tcp():
    """Yields ranks that meet over TCP, as in a training."""
    started = Ranks(over_tcp=True)
    yield started
    started.stop()


FAST = [(2, "raises", 1), (2, "killed", 0), (2, "hangs", 1)]
SLOW = [(2, "raises", 0), (2, "killed", 1), (2, "stopped", 0), (2, "stopped", 1)]
SLOW += [(4, fault, culprit) for fault in WHAT for culprit in (0, 1, 3)]


@pytest.mark.parametrize(("size", "fault", "culprit"), FAST + [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW])
def test_the_run_ends_on_all_ranks(over_tcp, place, size, fault, culprit):
    """Each names the rank at fault, which names itself if it wakes again, within the timeout."""
    after = 0.5 if fault == "hangs" and size == 2 else 2 * TIMEOUT_S  # one of two hangs: after the other's end there is no more to wait for
    ends = over_tcp.run_to_the_end(size, fit_to_its_end, place, size, fault, culprit, after=after)
    for rank, (kind, trace) in enumerate(ends):
        if rank == culprit:
            assert kind == {"killed": "died", "hangs": "hangs"}.get(fault, "raised"), trace
            if fault == "stopped":
                assert f"rank {culprit}, this one, was stopped or hung" in trace, trace
        else:
            assert kind == "raised", trace
            told = [line for line in trace.splitlines() if line.startswith("rank ")]
            assert told in [[f"rank {culprit} {WHAT[fault].format(other)}"] for other in range(size) if other != culprit], trace
    assert torch.load(place / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_rank_that_is_stopped_for_less_than_the_timeout(over_tcp, place):
    """All go on, and reach the same weights."""
    stopped, unharmed = (over_tcp.run(2, fit_to_its_end, place, 2, fault, 1) for fault in ("stopped for a while", ""))
    for weights in stopped:
        assert all(torch.equal(weights[name], weight) for name, weight in unharmed[0].items())


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
    """Makes the second rank's share of the third batch NaN."""

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
    """Runs work on the first rank; returns this rank's error type and message, and [True] if it did the work itself."""
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
    """The error stands for bad data, which the first rank reads before training; without an error, all ranks train."""
    assert ranks.run(2, work_alone, folder, True) == [
        (OSError, "noise.wav: is no audio", [True]),
        (UserError, "noise.wav: is no audio", []),
    ]
    assert ranks.run(2, work_alone, folder, False) == [(None, "", [True]), (None, "", [])]
