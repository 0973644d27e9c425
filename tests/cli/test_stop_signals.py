"""Tests of stopping in the middle of training by a signal, and of resuming from there."""

import json
import shutil
import signal

import pytest
import torch

from cli import main
from tests.cli.conftest import as_two_ranks
from tests.forking import in_child, status_of

EXIT_STOPPED = 75
COMMON = "fit --config tiny.yaml --trainer.callbacks+=tests.cli.run_callbacks.Record --ema.decay 0.9"
COMMON += " --samples.sample_seconds 0 --trainer.limit_val_batches 1"


def fit(extra=""):
    return main(f"{COMMON} {extra}".split())


def at(step, **options):
    return f"--trainer.callbacks+=tests.cli.run_callbacks.SignalAt --trainer.callbacks.step={step}" + "".join(
        f" --trainer.callbacks.{name}={value}" for name, value in options.items()
    )


def records(folder, rank=0):
    return [json.loads(line) for line in (folder / f"record_{rank}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made():
    """Returns a dict of the folders of uninterrupted runs, by plan."""
    return {}


@pytest.fixture
def whole(folder, made):
    """Returns a function that trains an uninterrupted run of a plan as `version_0`, once per module, and returns its records."""

    def make(plan):
        if plan not in made:
            assert fit(plan) == 0
            (folder / "record_0.jsonl").rename(folder / "whole.jsonl")
            shutil.copytree(folder / "logs", folder / "whole")
            made[plan] = folder
        else:
            shutil.copytree(made[plan] / "whole", folder / "logs")
        return [json.loads(line) for line in (made[plan] / "whole.jsonl").read_text().splitlines()]

    return make


def last(folder, version=0):
    return torch.load(folder / f"logs/tiny/version_{version}/checkpoints/last.ckpt", weights_only=True)


PLANS = {
    # 5 batches per epoch
    "steps": "--trainer.max_steps 8 --trainer.val_check_interval 3",
    "epochs": "--trainer.max_steps -1 --trainer.max_epochs 2 --trainer.check_val_every_n_epoch 1 --trainer.val_check_interval 1.0",
    "accumulated": "--trainer.max_steps 5 --trainer.val_check_interval 100 --trainer.accumulate_grad_batches 2",
}


OTHERS = [("steps", 2), ("steps", 4), ("epochs", 2), ("accumulated", 1), ("accumulated", 2)]


@pytest.mark.parametrize(("plan", "step"), [("steps", 1), ("epochs", 4), *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)])
def test_a_signal_ends_a_run_after_the_step_and_it_goes_on_exactly(folder, whole, capsys, plan, step):
    expected = whole(PLANS[plan])
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    assert fit(f"{PLANS[plan]} {at(step)}") == EXIT_STOPPED
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    told = capsys.readouterr().err
    assert "--ckpt_path " in told
    assert told.rstrip().endswith("logs/tiny/version_1/checkpoints/last.ckpt")
    assert last(folder, 1)["global_step"] == step + 1
    assert fit(f"{PLANS[plan]} --ckpt_path last") == 0
    assert records(folder) == expected
    a, b = last(folder, 0), last(folder, 1)
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(a[key][name], b[key][name]) for name in a[key])
    if plan != "accumulated":  # this plan has no validation
        bests = [torch.load(folder / f"logs/tiny/version_{i}/checkpoints/best.ckpt", weights_only=True) for i in (0, 1)]
        assert bests[0]["global_step"] == bests[1]["global_step"]


@pytest.mark.parametrize(
    ("name", "hook", "step", "saved"),
    [
        ("SIGINT", "on_validation_batch_start", 3, 3),
        pytest.param("SIGINT", "on_validation_epoch_end", 3, 3, marks=pytest.mark.slow),
        ("SIGUSR1", "on_before_backward", 2, 3),
    ],
)
def test_a_validation_under_way_or_due_is_finished_first(folder, whole, name, hook, step, saved):
    plan = PLANS["steps"]
    expected = whole(plan)
    assert fit(f"{plan} {at(step, name=name, hook=hook)}") == EXIT_STOPPED
    assert last(folder, 1)["global_step"] == saved
    best = torch.load(folder / "logs/tiny/version_1/checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == 3
    assert fit(f"{plan} --ckpt_path last") == 0
    assert records(folder) == expected


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        ("setup", "SIGINT"),
        ("on_validation_batch_start", "SIGTERM"),
        *(pytest.param(hook, "SIGTERM", marks=pytest.mark.slow) for hook in ("setup", "on_sanity_check_start")),
    ],
)
def test_before_the_first_step_a_signal_ends_the_program(folder, capsys, hook, name):
    assert fit(at(0, name=name, hook=hook)) == 128 + signal.Signals[name]
    assert capsys.readouterr().err.splitlines()[-1] == f"ended by {name}"
    assert not list(folder.rglob("*.ckpt"))


def test_a_signal_between_going_on_and_the_first_step_ends_the_program(folder, capsys):
    """Lightning makes no validation before training in these cases."""
    plan = f"--trainer.num_sanity_val_steps 0 {at(0, hook='on_train_start')}"
    assert fit(plan) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.splitlines()[-1] == "ended by SIGTERM"


def test_a_signal_in_the_last_step_changes_nothing(folder):
    assert fit(f"--trainer.max_steps 3 --trainer.val_check_interval 2 {at(2)}") == 0
    assert last(folder)["global_step"] == 3


def test_a_second_interrupt_ends_the_program_at_once(folder):
    twice = at(2, name="SIGINT") + " " + at(2, name="SIGINT")
    pid = in_child(lambda: fit(f"--trainer.val_check_interval 2 {twice}"), folder / "output.txt")
    assert status_of(pid) == -signal.SIGINT, (folder / "output.txt").read_text()
    assert last(folder)["global_step"] == 2


def test_under_slurm_it_is_the_same_and_the_first_start_needs_no_run(folder, monkeypatch):
    """Starts the same command again and again."""
    for key, value in {"JOB_ID": 7, "JOB_NAME": "train", "NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{key}", str(value))
    monkeypatch.setattr("lightning.pytorch.trainer.connectors.signal_connector.call", lambda *_: pytest.fail("requeued by Lightning"))
    plan = "--trainer.max_steps 6 --trainer.val_check_interval 3 --ckpt_path last"
    assert fit(f"{plan} {at(1, name='SIGUSR1')}") == EXIT_STOPPED
    assert fit(f"{plan} {at(3, name='SIGTERM')}") == EXIT_STOPPED
    assert fit(plan) == 0
    assert len(records(folder)) == 6
    assert [p.name for p in (folder / "logs/tiny").iterdir()] == ["version_0"]
    assert not list(folder.rglob("hpc_ckpt*"))


def test_a_checkpoint_every_few_minutes(folder, monkeypatch):
    """The clock is faked to advance a minute per step; the run is killed between validations."""
    plan = "--trainer.max_steps 8 --trainer.val_check_interval 100 --checkpoint.minutes 3"
    assert fit(plan) == 0
    whole = records(folder)
    (folder / "record_0.jsonl").unlink()
    monkeypatch.setattr("callbacks.last_checkpoint.time.monotonic", lambda: 60.0 * sum(1 for _ in (folder / "record_0.jsonl").open()))
    (folder / "record_0.jsonl").touch()
    with pytest.raises(RuntimeError, match="killed"):
        fit(f"{plan} --trainer.callbacks+=tests.cli.run_callbacks.Kill --trainer.callbacks.step=5")
    assert last(folder, 1)["global_step"] == 3
    (folder / "record_0.jsonl").unlink()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert fit(f"{plan} --ckpt_path last") == 0
    assert records(folder) == whole[3:]


def test_a_signal_to_one_rank_stops_all_after_the_same_step(folder):
    plan = f"{COMMON} --trainer.max_steps 50 --trainer.val_check_interval 100 --trainer.num_sanity_val_steps 0"
    ends, told = as_two_ranks(folder, f"{plan} {at(3, rank=1)}")
    assert ends == [EXIT_STOPPED] * 2, told
    assert len(records(folder, 0)) == len(records(folder, 1)) == 4
    assert told.count("go on with") == 1
    assert last(folder)["global_step"] == 4
    assert [p.name for p in (folder / "logs/tiny/version_0/checkpoints").iterdir()] == ["last.ckpt"]
