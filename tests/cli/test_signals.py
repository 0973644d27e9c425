"""Asked to stop in the middle of training, and going on from there."""

import json
import signal

import pytest
import torch

from cli import main

EXIT_STOPPED = 75
COMMON = "fit --config tiny.yaml --trainer.callbacks+=tests.cli.record.Record --ema.decay 0.9"
COMMON += " --samples.sample_seconds 0 --trainer.limit_val_batches 1"


def fit(extra=""):
    return main(f"{COMMON} {extra}".split())


def at(step, **options):
    return f"--trainer.callbacks+=tests.cli.signalled.SignalAt --trainer.callbacks.step={step}" + "".join(
        f" --trainer.callbacks.{name}={value}" for name, value in options.items()
    )


def records(folder, rank=0):
    return [json.loads(line) for line in (folder / f"record_{rank}.jsonl").read_text().splitlines()]


def last(folder, version=0):
    return torch.load(folder / f"logs/tiny/version_{version}/checkpoints/last.ckpt", weights_only=True)


PLANS = {
    # 5 batches an epoch
    "steps": "--trainer.max_steps 8 --trainer.val_check_interval 3",
    "epochs": "--trainer.max_steps -1 --trainer.max_epochs 2 --trainer.check_val_every_n_epoch 1 --trainer.val_check_interval 1.0",
    "accumulated": "--trainer.max_steps 5 --trainer.val_check_interval 100 --trainer.accumulate_grad_batches 2",
}


@pytest.mark.parametrize(
    ("plan", "step"), [("steps", 1), ("steps", 2), ("steps", 4), ("epochs", 2), ("epochs", 4), ("accumulated", 1), ("accumulated", 2)]
)
def test_a_signal_ends_a_run_after_the_step_and_it_goes_on_exactly(folder, capsys, plan, step):
    assert fit(PLANS[plan]) == 0
    whole = records(folder)
    (folder / "record_0.jsonl").unlink()
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    assert fit(f"{PLANS[plan]} {at(step)}") == EXIT_STOPPED
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    told = capsys.readouterr().err
    assert "logs/tiny/version_1/checkpoints/last.ckpt" in told
    assert "--ckpt_path last" in told
    assert last(folder, 1)["global_step"] == step + 1
    assert fit(f"{PLANS[plan]} --ckpt_path last") == 0
    assert records(folder) == whole
    a, b = last(folder, 0), last(folder, 1)
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(a[key][name], b[key][name]) for name in a[key])
    if plan != "accumulated":  # which has no validation
        bests = [torch.load(folder / f"logs/tiny/version_{i}/checkpoints/best.ckpt", weights_only=True) for i in (0, 1)]
        assert bests[0]["global_step"] == bests[1]["global_step"]
