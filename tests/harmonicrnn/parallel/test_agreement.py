"""Ranks with other code, versions, settings, weights or data than the first end all, before any step, with the rank and the cause named."""

import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar

from callbacks import agreement_check
from callbacks.agreement_check import Agreement
from callbacks.nll_report import NLLReport
from harmonicrnn.errors import UserError
from harmonicrnn.parallel import ContextParallelStrategy
from harmonicrnn.parallel.agreement import check_agreement, difference
from tests.harmonicrnn.parallel.fits import Recorded, make_data, make_trainer

CONFIG = {"trainer.max_steps": 3, "data.init_args.root": "/here", "model.levels": [8, 12]}
CASES = {
    "data": "data (",
    "protocol": "data (protocol)",
    "config": "config (trainer.max_steps: 4, not 3)",
    "code": "code (datamodules/orders.py, harmonicrnn/voice.py",
    "versions": "versions (torch: 2.0, not ",
    "checkpoint": "checkpoint (content)",
    "context_size": "config (trainer.strategy.context_size: 1, not 2)",
}


def told(folder, other, case, odd, strategy, stage):
    """Trains or tests, and returns the error message and the number of steps; ranks in `odd` differ from the first one."""
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    case = case if rank in odd else ""
    config, agreement, before = (
        CONFIG | {"data.init_args.root": f"/{rank}"},
        agreement_check,
        dict(vars(agreement_check)),
    )
    options, module, place = {}, Recorded(False, False), folder
    if case == "config":
        config |= {"trainer.max_steps": 4}
    if case == "code":
        agreement.ROOT, agreement.LIBRARY = other / "code", other / "code/harmonicrnn"
    if case == "versions":
        found = agreement.provenance()
        agreement.provenance = lambda: found | {"libraries": found["libraries"] | {"torch": "2.0"}}
    if case == "checkpoint":
        place = other
    if case == "protocol":
        options = {"law": "linear"}
    chosen = ContextParallelStrategy(1 if case == "context_size" else size) if strategy == "context_parallel" else strategy
    checkpoint = place / "whole.ckpt" if (place / "whole.ckpt").exists() else None
    trainer = make_trainer(folder, size, strategy=chosen, callbacks=[Agreement(config, checkpoint)], precision="64-true")
    data = make_data(other if case == "data" else folder, **options)
    try:
        (trainer.fit if stage == "fit" else trainer.test)(module, datamodule=data, ckpt_path=checkpoint)
    except UserError as error:
        return str(error), len(module.losses)
    finally:
        vars(agreement).update(before)
    return "", len(module.losses)


@pytest.fixture(scope="module")
def other(folder, tmp_path_factory):
    """Returns a copy of `folder` with another last sample in two recordings, and a copy of the code with two changed files."""
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(folder / "music", other / "music", ignore=shutil.ignore_patterns("shards_*"))
    for changed in (other / "music/train/2.wav", other / "music/test/0.wav"):
        changed.write_bytes(changed.read_bytes()[:-2] + b"\0\1")
    root = Path(agreement_check.ROOT)
    for place in (*agreement_check.EXPERIMENT, "harmonicrnn"):
        copy = shutil.copytree if (root / place).is_dir() else shutil.copy
        (other / "code").mkdir(exist_ok=True)
        copy(root / place, other / "code" / place)
    for name in ("datamodules/orders.py", "harmonicrnn/voice.py"):
        with (other / "code" / name).open("a") as file:
            file.write("\n")
    return other


PAIRS = [("context_parallel", "fit"), ("ddp", "fit"), ("context_parallel", "test")]


@pytest.mark.parametrize("case", [case for case in CASES if case != "checkpoint"])
def test_ranks_that_differ(ranks, folder, other, case):
    for strategy, stage in PAIRS if case in ("data", "config") else PAIRS[:1]:
        first, second = ranks.run(2, told, folder, other, case, [1], strategy, stage)
        assert first == second
        assert first[0].startswith("rank 1 differs from rank 0 in " + CASES[case]), first
        assert first[1] == 0, "steps were made"


def test_code_of_ones_own_is_compared_too():
    own = agreement_check.sources(Recorded(False, False), NLLReport(), RichProgressBar())
    assert set(own) - set(agreement_check.sources()) == {"tests.harmonicrnn.parallel.fits"}
    assert {"cli/training_cli.py", "harmonicrnn/parallel/agreement.py"} <= set(own)


def test_ranks_that_agree(ranks, folder, other):
    """Their roots differ, which is allowed."""
    for strategy, stage in PAIRS:
        assert ranks.run(2, told, folder, other, "", [], strategy, stage) == [("", 3 if stage == "fit" else 0)] * 2


def test_ranks_that_go_on_from_other_weights(ranks, folder, other, tmp_path):
    (tmp_path / "music").symlink_to(folder / "music")
    for place, seed in ((tmp_path, 0), (other, 1)):
        ranks.run(1, save, place, seed)
    for stage in ("fit", "test"):
        first, second = ranks.run(2, told, tmp_path, other, "checkpoint", [1], "context_parallel", stage)
        assert first == second
        assert first[0].startswith("rank 1 differs from rank 0 in checkpoint (content): start"), first


def save(folder, seed):
    torch.manual_seed(seed)
    trainer = make_trainer(folder, None, precision="64-true", max_steps=1)
    trainer.fit(Recorded(False, False), datamodule=make_data(folder))
    trainer.save_checkpoint(folder / "whole.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["data", "config", "code"])
def test_of_four_ranks_two_differ(ranks, folder, other, case):
    results = ranks.run(4, told, folder, other, case, [1, 3], "context_parallel", "fit")
    assert results == [results[0]] * 4
    assert results[0][0].startswith("ranks 1, 3 differ from rank 0 in " + CASES[case]), results


def disagree():
    rank = torch.distributed.get_rank()
    try:
        check_agreement({"config": {"a": "1"}})
        check_agreement({"config": {"a": "1" if rank == 0 else str(rank)}})
    except UserError as error:
        return str(error)
    return ""


def test_each_differs_in_its_own_way(ranks):
    line = "rank 2 differs from rank 0 in config (a: 2, not 1); rank 3 differs from rank 0 in config (a: 3, not 1): start all ranks with"
    assert {found.split(" the same")[0] for found in ranks.run(4, disagree)} == {line}


def test_what_is_said_of_a_difference():
    digest = "0" * 64
    assert difference({"a": {"x": "1"}}, {"a": {"x": "1"}}) == ""
    assert difference({"a": {"x": digest, "y": "2"}}, {"a": {"x": digest[1:] + "1"}}) == "a (x, y: not there on rank 0)"
    many = {str(i): "1" for i in range(5)}
    assert difference({"a": {}, "b": {"n": "3"}}, {"a": many, "b": {}}) == (
        "a (0: not there, 1: not there, 2: not there and 2 more) and b (n: not there on rank 0)"
    )
