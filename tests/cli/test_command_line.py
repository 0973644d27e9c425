"""Tests of the command line as a whole: help, start-up cost, no abbreviated options, and one place that reads the arguments."""

import os
import re
import resource
import signal
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cli import main, prepare_command
from cli.command_line import explain
from harmonicrnn import __version__
from tests.cli.conftest import REPOSITORY
from tests.cli.test_bad_input import expect_error

HEAVY = {"lightning", "pytorch_lightning", "tensorboard", "torchmetrics", "matplotlib", "torchaudio"}


def seconds_of(command):
    """Returns the CPU seconds (user and system) of a finished program, and its standard output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def imported_by(code):
    """Returns which of the heavy packages a program has imported by its end."""
    code = f"import sys\n{code}\nprint(*({HEAVY | {'torch'}} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_help_names_all_commands_with_a_line_each_and_costs_little():
    seconds, told = seconds_of([sys.executable, "train.py", "--help"])
    for name in ("fit", "validate", "test", "prepare", "predictors", "generate", "evaluate", "export"):
        assert len(re.findall(rf"^    {name} +\w.*\.$", told, re.MULTILINE)) == 1, told
    assert seconds < 2
    assert imported_by("from cli import main\ntry: main(['--help'])\nexcept SystemExit: pass") == set()


def test_generate_imports_none_of_what_training_needs(old_run, tmp_path):
    """Holds once the run's folder has the reference that clips are compared with; before, it is measured on the data."""
    from harmonicrnn.generation.detectors import Reference

    Reference("measured").keep(old_run)
    where = f"'--ckpt_path', '{old_run}/checkpoints/best.ckpt', '--out', '{tmp_path}/out'"
    assert imported_by(f"from cli import main\nassert main(['generate', '--seconds', '0.01', {where}]) == 0") == {"torch"}


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"train.py {__version__}\n")


@pytest.mark.parametrize(
    "command", ["fit", pytest.param("validate", marks=pytest.mark.slow), "prepare", "predictors", "generate", "evaluate", "export"]
)
def test_each_command_has_help_of_its_own(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert ("--data" in told) == (command != "export")
    assert "--config" in told


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("test --ckpt X", "--ckpt"),
        ("fit --conf tiny.yaml", "--conf"),
        ("fit --config tiny.yaml --trainer.max_step 3", "--trainer.max_step"),
        ("fit --config tiny.yaml --data.clip_sample 320", "clip_sample"),
        ("prepare --config tiny.yaml --process 2", "--process"),
        ("generate --second 1", "--second"),
        ("evaluate --clip 3", "--clip"),
    ],
)
def test_abbreviations_are_refused_by_name(run, capsys, arguments, option):
    expect_error(run, capsys, arguments, option)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("evaluate --ckpt_path nothing.ckpt --clips 2", "--ckpt_path: evaluate takes checkpoints as arguments"),
        ("prepare --data SC09 --ckpt_path nothing.ckpt", "--ckpt_path: prepare reads recordings alone"),
        ("predictors --data SC09 --ckpt_path nothing.ckpt", "--ckpt_path: predictors measures without a model"),
        ("generate --model.heads 7", "--model.heads: is a setting of training"),
        ("generate --seed_everything 3", "--seed_everything: is a setting of training"),
        ("prepare --data SC09 --trainer.nonsense 3", "--trainer.nonsense: is a setting of training"),
        ("export --ema.decay 0.5 --out voice", "--ema.decay: is a setting of training"),
        ("export --data.scaling none --out voice", "--data: export reads no data"),
        ("export --print_config --out voice", "--print_config: export reads no data"),
        ("evaluate --samples.every 5", "--samples.every: is a setting of training"),
    ],
)
def test_options_that_a_command_does_not_obey_are_refused_by_name(run, capsys, arguments, named):
    expect_error(run, capsys, arguments, named)


def test_options_are_read_in_one_place():
    sources = [
        path
        for place in ("cli", "callbacks", "datamodules", "lightning_modules", "harmonicrnn", "benchmarks")
        for path in (REPOSITORY / place).rglob("*.py")
    ]
    readers = [path.relative_to(REPOSITORY).as_posix() for path in (*sources, REPOSITORY / "train.py") if "sys.argv" in path.read_text()]
    assert readers == ["cli/command_line.py"]
    assert (REPOSITORY / "cli/command_line.py").read_text().count("sys.argv") == 1
    assert not [path for path in sources if re.search(r"\bargparse\.ArgumentParser|from argparse\b", path.read_text())]


@pytest.mark.parametrize(
    ("arguments", "key", "path"),
    [
        ("--config old_strategy.yaml", "strategy", "harmonicrnn.parallel.ContextParallelStrategy"),
        ("--trainer.strategy.class_path parallel.ContextParallelStrategy", "strategy", "harmonicrnn.parallel.ContextParallelStrategy"),
        (
            "--trainer.strategy context_parallel --trainer.strategy.context_size 1",
            "strategy",
            "harmonicrnn.parallel.ContextParallelStrategy",
        ),
        ("--config old_model.yaml", "model", "lightning_modules.harmonic_module.HarmonicModule"),
        ("--model lightning_modules.harmonic.HarmonicModule", "model", "lightning_modules.harmonic_module.HarmonicModule"),
        ("--data datamodules.memory.Memory", "data", "datamodules.memory_task.Memory"),
    ],
)
def test_paths_of_classes_as_they_were_before_are_understood(folder, capsys, arguments, key, path):
    (folder / "old_strategy.yaml").write_text("trainer: {strategy: {class_path: parallel.ContextParallelStrategy}}\n")
    (folder / "old_model.yaml").write_text("model: {class_path: lightning_modules.harmonic.HarmonicModule}\n")
    data = "" if key == "data" else "--data Synthetic"
    with pytest.raises(SystemExit):
        main(f"fit {data} {arguments} --print_config".split())
    told = capsys.readouterr().out
    assert re.search(rf"^ *{key}:\n +class_path: {re.escape(path)}$", told, re.MULTILINE), told


def test_a_callback_is_named_by_its_package(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--data", "Synthetic", "--trainer.callbacks+=callbacks.Agreement", "--print_config"])
    assert "- class_path: callbacks.Agreement\n" in capsys.readouterr().out


@pytest.mark.parametrize("program", ["runpy.run_path('train.py')", "from harmonicrnn.cli import main; main(['nll', 'nowhere', 'a.wav'])"])
@pytest.mark.parametrize(("given", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_the_processor_to_others_unless_the_user_says_otherwise(program, given, then):
    """The setting counts only if it is made before torch is loaded."""
    code = f"""if True:
        import os, runpy, sys
        class Watch:
            def find_spec(self, name, *_):
                if name == "torch":
                    print("policy", os.environ.get("OMP_WAIT_POLICY"), flush=True)
                    os._exit(0)
        sys.meta_path.insert(0, Watch())
        {program}
        import torch"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | (
        {"OMP_WAIT_POLICY": given} if given else {}
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"policy {then}\n"


def test_the_default_levels_are_written_as_null(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--print_config", "--data", "Synthetic"])
    told = capsys.readouterr().out
    assert "levels: null" in told
    assert "Unable to serialize" not in told


class Killed(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (lambda: torch.empty(10**15), "memory ran out"),
        (lambda: list(DataLoader(Killed(), num_workers=1)), "a process that reads the data was killed"),
    ],
    ids=["memory", "worker"],
)
def test_what_torch_says_is_understood(monkeypatch, capsys, fail, told):
    monkeypatch.setattr(prepare_command, "prepare", lambda *_: fail())
    assert main(["prepare"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_other_errors_are_left_alone(monkeypatch):
    assert explain(RuntimeError("shapes do not match")) is None
    for lost in (torch.distributed.DistNetworkError("Connection reset by peer"), RuntimeError("[gloo/pair.cc] Connection closed by peer")):
        assert "another rank, most likely rank 0, ended" in explain(lost)
    monkeypatch.setattr(prepare_command, "prepare", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        main(["prepare"])
