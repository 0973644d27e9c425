"""Training that is killed at any moment, again and again, is the training that was not."""

import itertools
import json
import os
import random
import shutil
import signal
import time

import pytest
import torch

from cli import main
from tests.forking import in_child, status_of

FEW, MANY = 3, 100
STEPS = 40
# A checkpoint after every step, so that many kills fall into the writing of one.
FIT = f"fit --config tiny.yaml --trainer.max_steps {STEPS} --trainer.val_check_interval 6 --checkpoint.minutes 1e-9 --ema.decay 0.9"
FIT += " --samples.sample_seconds 0 --trainer.callbacks+=tests.cli.run_callbacks.Record --ckpt_path last"


def records(folder):
    """Of each step all that was recorded, more than once where it was made again after a kill."""
    rows = {}
    for line in (folder / "record_0.jsonl").read_text().splitlines() if (folder / "record_0.jsonl").exists() else []:
        row = json.loads(line)
        rows.setdefault(row["step"], []).append(row)
    return rows


def steps_made(folder):
    return sum(map(len, records(folder).values()))


def let_work(folder, pid, rng, in_a_step):
    """Waits for a random moment of a training's start, or of one of its steps, of which each writes a checkpoint."""
    moment = time.monotonic() + rng.uniform(0, 4)
    if in_a_step:
        goal = steps_made(folder) + rng.randrange(9)
        while steps_made(folder) < goal and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.01)
        moment = time.monotonic() + rng.uniform(0, 0.1)
    time.sleep(max(0, moment - time.monotonic()))


def start_anew(folder):
    shutil.rmtree(folder / "logs", ignore_errors=True)
    (folder / "record_0.jsonl").unlink(missing_ok=True)


def weights(folder):
    checkpoint = torch.load(folder / "logs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    return [*checkpoint["state_dict"].values(), *checkpoint["current_model_state"].values()]


# Takes 4 s a kill, most of them for starting.
@pytest.mark.parametrize("wanted", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_killed_at_random_again_and_again(folder, wanted):
    """SIGTERM, SIGINT and SIGKILL at a random time of preparing, starting, training, writing and evaluating."""
    output = folder / "output.txt"
    assert main(FIT.split()) == 0  # in this process, so that its children find everything imported and compiled
    whole, final = records(folder), weights(folder)
    start_anew(folder)
    rng = random.Random(0)
    ends, kills, again = {}, 0, 0
    names = itertools.cycle(["SIGKILL", "SIGTERM", "SIGKILL", "SIGINT"])
    while kills < wanted or records(folder):  # the last run is let go to its end
        if rng.random() < 0.25:
            shutil.rmtree(folder / "data/shards_16000", ignore_errors=True)
        workers, name = rng.choice([0, 0, 1]), next(names)
        output.unlink(missing_ok=True)
        pid = in_child(lambda workers=workers: main([*FIT.split(), f"--data.num_workers={workers}"]), output)
        signum = signal.Signals[name]
        if kills < wanted:
            let_work(folder, pid, rng, in_a_step=wanted == FEW or rng.random() < 2 / 3)
            # As `kill` does, or as terminals and clusters do, with the processes that read the data.
            rng.choice([os.kill, os.killpg])(pid, signum)
        status = status_of(pid)
        # Killed, ended before training, stopped in it, or done before the signal came.
        assert status in ({-signum} if name == "SIGKILL" else {75, 128 + signum}) | {0}, output.read_text()
        assert name == "SIGKILL" or "Traceback" not in output.read_text()
        ends[name, status] = ends.get((name, status), 0) + 1
        kills += status != 0
        if status == 0:
            rows = records(folder)
            assert set(rows) == set(whole)
            assert all(row == whole[step][0] for step in rows for row in rows[step])
            assert all(torch.equal(a, b) for a, b in zip(weights(folder), final, strict=True))
            again += sum(len(made) - 1 for made in rows.values())
            start_anew(folder)
    print(ends, f"{again} steps made again")
    assert again <= kills
    assert {status for _, status in ends} >= {75, -signal.SIGKILL, 0}
