"""Tests of one waveform split over two processes, started as a user would."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import REPOSITORY, as_program
from tests.harmonicrnn.parallel.ranks import free_port
from tests.helpers import relative_error

SPLIT = "--trainer.strategy context_parallel --trainer.accelerator cpu"
FIT = f"fit --config tiny.yaml --trainer.max_steps 2 --samples.sample_seconds 0.001 {SPLIT}"


def by_torchrun(folder, command):
    """Returns the exit status and standard error of the program, as a list of one pair."""
    arguments = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", REPOSITORY / "train.py"]
    done = subprocess.run([*arguments, *command.split(), "--trainer.devices", "2"], cwd=folder, capture_output=True, text=True, timeout=250)
    return [(done.returncode, done.stderr)]


def by_slurm(folder, command, second=None, code=REPOSITORY):
    """Starts one task on each of two nodes, as SLURM does; returns each task's exit status and standard error.

    `second` and `code` are the command and the repository of the second task.
    """
    common = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train"}
    common |= {"SLURM_NODELIST": "localhost,elsewhere", "SLURM_LOCALID": "0", "MASTER_PORT": str(free_port())}
    end = ["--trainer.devices", "1", "--trainer.num_nodes", "2"]
    settings = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    tasks = [
        subprocess.Popen(
            [sys.executable, place / "train.py", *words.split(), *end],
            env=os.environ | common | {"SLURM_PROCID": rank, "SLURM_NODEID": rank},
            **settings,
        )
        for rank, place, words in (("0", REPOSITORY, command), ("1", code, second or command))
    ]
    told = [task.communicate(timeout=250)[1] for task in tasks]
    return [(task.returncode, lines) for task, lines in zip(tasks, told, strict=True)]


@pytest.mark.slow
def test_fit_and_test_over_two_processes(folder, run, monkeypatch):
    """Starts eight programs that import everything. Other splits are tested in tests/harmonicrnn/parallel."""
    fitted = as_program(folder, f"{FIT} --trainer.devices 2")
    assert fitted.returncode == 0, fitted.stderr
    tested = as_program(folder, "test")  # with the run's own config, again on two processes
    assert tested.returncode == 0, tested.stderr
    report = Path("logs/tiny/version_0/nll_test.json")
    measured = json.loads(report.read_text())
    monkeypatch.setattr("callbacks.nll_report.default_cache", lambda: folder / "another_cache")
    assert run("test --trainer.strategy auto --trainer.devices 1") == 0
    alone = json.loads(report.read_text())
    assert measured["bits_per_sample"] == pytest.approx(alone["bits_per_sample"], abs=1e-5)  # float32
    # The first process alone computes the likelihoods without training, of whole clips.
    assert len(measured["untrained"]) == 4
    assert measured["untrained"] == alone["untrained"]
    assert {row["samples"] for row in measured["untrained"]} == {measured["samples"]}
    assert (measured["samples"], measured["clips"]) == (alone["samples"], alone["clips"])

    for version, launch in enumerate((by_torchrun, by_slurm), 1):
        for status, complaint in launch(folder, FIT):
            assert status == 0, complaint
        trained, expected = (
            torch.load(f"logs/tiny/version_{i}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for i in (version, 0)
        )
        for name, weight in expected.items():
            assert relative_error(trained[name], weight) < 1e-5, (launch, name)


@pytest.mark.slow
def test_goes_on_from_the_last_checkpoint_over_another_number_of_processes(folder, run):
    """Starts one program of two processes, and two runs in this process."""
    alone = "--trainer.strategy auto --trainer.devices 1"
    assert run(f"{FIT} {alone}") == 0
    shutil.copytree("logs", "begun")
    assert run(f"{FIT} {alone} --trainer.max_steps 4 --ckpt_path last") == 0
    Path("logs").rename("alone")
    Path("begun").rename("logs")
    split = as_program(folder, f"{FIT} --trainer.devices 2 --trainer.max_steps 4 --ckpt_path last")
    assert split.returncode == 0, split.stderr
    trained, expected = (torch.load(f"{logs}/tiny/version_0/checkpoints/last.ckpt", weights_only=True) for logs in ("logs", "alone"))
    assert trained["global_step"] == expected["global_step"] == 4
    for name, weight in expected["state_dict"].items():
        assert relative_error(trained["state_dict"][name], weight) < 1e-4, name  # float32


@pytest.mark.slow
def test_bad_data_ends_all_tasks_of_a_job(folder):
    """The first task alone reads the data; the second one must not wait for it."""
    next(Path("data").glob("zero/*.wav")).write_bytes(b"no audio")
    ends = by_slurm(folder, FIT)
    assert [status for status, _ in ends] == [2, 2], ends
    assert all("nohash_0.wav" in complaint for _, complaint in ends), ends
    assert not Path("logs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "what"),
    [
        (f"{FIT} --data.seed 3", "config (data.seed: 3, not 0)"),
        (f"{FIT} --data.root other", "data (train split)"),
        (None, "code (datamodules/orders.py)"),
    ],
)
def test_tasks_that_differ_end_with_one_line(folder, second, what):
    """Each task prints the line to its own standard error."""
    code = REPOSITORY
    if "root" in str(second):
        shutil.copytree("data", "other")
        changed = next(Path("other").glob("zero/*.wav"))
        changed.write_bytes(changed.read_bytes()[:-2] + b"\0\1")
    if second is None:
        code = folder / "code"
        for place in ("cli", "callbacks", "datamodules", "lightning_modules", "harmonicrnn", "configs"):
            shutil.copytree(REPOSITORY / place, code / place)
        shutil.copy(REPOSITORY / "train.py", code)
        with (code / "datamodules/orders.py").open("a") as file:
            file.write("\n")
    for status, complaint in by_slurm(folder, FIT, second, code):
        assert status == 2, complaint
        told = [line for line in complaint.splitlines() if "rror" in line]
        assert told == [f"error: rank 1 differs from rank 0 in {what}: start all ranks with the same code, config and data"], complaint
        assert "Traceback" not in complaint
    assert not [*Path("logs").rglob("*.ckpt")]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["killed", "hangs", "stopped"])
def test_a_rank_at_fault_is_named_under_lightnings_own_launcher(folder, fault):
    """The launcher kills the others within 5 s of a failure. Importing everything takes long, and the timeout also covers the start."""
    at = f"--trainer.callbacks+=tests.cli.run_callbacks.FaultAt --trainer.callbacks.fault={fault}"
    # Without the first rank's own work at validations, for which the other one would wait.
    plain = "--samples.sample_seconds 0 --trainer.val_check_interval 4 --trainer.num_sanity_val_steps 0 --trainer.max_steps 4"
    ended = as_program(folder, f"{FIT} {plain} --trainer.strategy.timeout 0:01:00 {at} --trainer.devices 2", timeout=300)
    assert ended.returncode != 0
    what = "hangs" if fault == "hangs" else "was killed or is stopped"
    told = [line for line in ended.stderr.splitlines() if "rror" in line]
    assert told == [f"error: rank 1 {what}: rank 0 waited for it in vain"], ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_cannot_be_split_is_said_before_training(folder, run, capsys):
    split = f"{SPLIT} --trainer.devices 2"
    assert run(f"fit --config tiny.yaml {split} --data.clip_samples 3") == 2
    assert "data.clip_samples (3) must be at least 4" in capsys.readouterr().err
    assert run(f"fit --config tiny.yaml {split} --trainer.strategy.context_size 1 --data.batch_size 3") == 2
    assert "data.batch_size (3) must be divisible by the number of data ranks (2)" in capsys.readouterr().err
    wrong = "--trainer.strategy=context_parallel --trainer.strategy.context_size 3 --trainer.strategy.timeout 0:00:20"
    wrong += " --trainer.strategy.process_group_backend gloo"
    assert run(f"fit --config tiny.yaml --trainer.devices 2 --trainer.accelerator cpu {wrong}") == 2
    assert "context_size (3) must divide the number of ranks (2" in capsys.readouterr().err
    assert not Path("logs").exists()
