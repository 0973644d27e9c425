"""Tests of folders with any name, links to folders, and commands that are run inside a run's folder."""

import inspect
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import datamodules
import lightning_modules
from cli import main, training_cli
from cli.data_options import PATHS
from harmonicrnn.runs import find_run
from tests.audio_files import make_folder

ODD = [
    "a: b",
    "a #b",
    "[a]",
    "{a}",
    "- a",
    "&a",
    "1e3",
    "true",
    "ü b",
    "'a'",
    "[red]x[/red]",
    "~",
    " a ",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("{a: b}", "*a", "2024", "0x10", ":smile:")),
]
QUICK = "--samples.sample_seconds 0 --trainer.limit_val_batches 1"


def step(run):
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize("name", ODD)
def test_recordings_lie_in_a_folder_of_any_name(folder, capsys, name):
    make_folder(folder / name, 10)
    assert main(["prepare", "--data", "AudioFolder", "--data.root", name, "--data.shards", f"{name}.shards"]) == 0
    printed = capsys.readouterr().out.splitlines()[-1].removeprefix("Prepared in ")
    assert shlex.split(printed) == [f"{name}.shards/shards_16000"]  # quoted for a shell
    assert len(list((folder / f"{name}.shards/shards_16000").glob("*.pcm"))) == 10


def test_a_name_with_a_reference_in_it_is_refused_in_words_that_say_so(folder, capsys):
    assert main(["prepare", "--data", "AudioFolder", "--data.root", "${a}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: data.init_args.root: ")
    assert "stands for another setting" in told


def test_all_settings_that_are_paths_are_known_as_such():
    kinds = [kind for module in (training_cli, datamodules, lightning_modules) for kind in vars(module).values() if inspect.isclass(kind)]
    kinds = [kind for kind in kinds if kind.__module__.startswith(("callbacks.", "datamodules.", "lightning_modules."))]
    taken = {name for kind in kinds for name, taken in inspect.signature(kind).parameters.items() if "Path" in str(taken.annotation)}
    assert {"root", "shards", "init_from", "cache"} <= taken - {"checkpoint"} <= PATHS


def test_runs_lie_in_a_folder_of_any_name(folder, capsys):
    name = "a: [b] ü"
    place = ["--trainer.logger.init_args.save_dir", f"logs {name}", "--trainer.logger.init_args.name", name]
    fit = ["fit", "--config", "tiny.yaml", *place, *QUICK.split()]
    assert main([*fit, "--trainer.max_steps", "2"]) == 0
    assert main([*fit, "--ckpt_path", "last"]) == 0
    run = folder / f"logs {name}" / name / "version_0"
    assert [found.parent for found in folder.rglob("checkpoints")] == [run]
    assert step(run) == 4
    capsys.readouterr()
    assert main(["test", "--ckpt_path", str(run / "checkpoints/best.ckpt")]) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(printed) == ["Written", "to", str(run / "nll_test.json")]
    assert main(["generate", "--ckpt_path", str(run / "checkpoints/best.ckpt"), "--seconds", "0.002", "--out", name]) == 0
    assert shlex.split(capsys.readouterr().out.splitlines()[-1]) == ["Written", "to", f"{name}/manifest.json"]


def test_from_inside_a_run(run, folder, begun, monkeypatch):
    version = begun
    monkeypatch.chdir(version)
    assert run(f"fit --config {folder}/tiny.yaml {QUICK} --ckpt_path checkpoints/last.ckpt") == 0
    assert step(version) == 4
    assert run("test --ckpt_path checkpoints/last.ckpt") == 0
    assert (version / "nll_test.json").is_file()
    assert run("generate --ckpt_path checkpoints/last.ckpt --seconds 0.001") == 0
    assert (version / "generated_0/clip_0000.wav").is_file()
    assert [found.parent for found in folder.rglob("checkpoints")] == [version]


@pytest.mark.parametrize(
    ("inside", "path"),
    [
        (".", "checkpoints/last.ckpt"),
        ("checkpoints", "last.ckpt"),
        ("samples", "../checkpoints/last.ckpt"),
        ("..", "version_0/checkpoints/last.ckpt"),
        ("../..", "tiny/version_0/checkpoints/last.ckpt"),
    ],
)
def test_a_run_has_its_folders_wherever_it_is_named_from(tmp_path, monkeypatch, inside, path):
    version = tmp_path / "tiny/version_0"
    for folder in ("checkpoints", "samples"):
        (version / folder).mkdir(parents=True)
    (version / "checkpoints/last.ckpt").touch()
    monkeypatch.chdir(version / inside)
    found = find_run(path, Path())
    assert found.folder.resolve() == version
    assert [folder.name for folder in (found.folder, found.folder.parent)] == ["version_0", "tiny"]


def test_a_run_behind_a_link_goes_on_there(run, folder, begun):
    version, disk = begun, folder / "disk"
    disk.mkdir()
    shutil.move(version, disk / "run")
    version.symlink_to(disk / "run", target_is_directory=True)
    assert run(f"fit --config tiny.yaml {QUICK} --ckpt_path last") == 0
    assert step(disk / "run") == 4
    assert [path.name for path in version.parent.iterdir()] == ["version_0"]
    shutil.move(disk / "run/checkpoints", disk / "large")  # only the checkpoints
    (disk / "run/checkpoints").symlink_to(disk / "large", target_is_directory=True)
    assert run("test") == 0
    assert (version / "nll_test.json").is_file()


def test_links_are_followed_once_and_a_run_has_its_own_name(tmp_path):
    checkpoint = tmp_path / "logs/b/version_0/checkpoints/last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    for link, to in (("a", "b"), ("b/version_0/up", "../.."), ("gone", "nowhere")):
        (tmp_path / "logs" / link).symlink_to(to)
    assert find_run("last", tmp_path / "logs").checkpoint == checkpoint
    assert find_run("last", tmp_path / "logs/a").folder == Path(tmp_path / "logs/a/version_0")
