"""Tests of lanes that carry their state: training, evaluation of whole files, and exact resuming."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cli import main
from datamodules import AudioFolder
from harmonicrnn.models import sample_nats
from lightning_modules import HarmonicModule
from tests.audio_files import tone
from tests.cli.conftest import CONFIG, as_two_ranks

CHUNK = 160
LENGTHS = {"train": [500, 330, 160, 900, 75], "validation": [410, 230, 700], "test": [333, 640, 100, 505]}


@pytest.fixture
def recordings(folder):
    """Enters a working directory with a config, and recordings of several lengths per split in `music/`."""
    for split, lengths in LENGTHS.items():
        (folder / "music" / split).mkdir(parents=True)
        for i, length in enumerate(lengths):
            soundfile.write(folder / "music" / split / f"{i}.wav", tone(length, i), 16_000)
    config = CONFIG.format(root=folder / "music").replace("SC09", "AudioFolder").replace("clip_samples: 320", f"clip_samples: {CHUNK}")
    config = config.replace("batch_size: 4", "batch_size: 2, scaling: file, order: sequential, eval_context: file")
    (folder / "stream.yaml").write_text(config)
    return folder


def losses(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fit(extra=""):
    return main(f"fit --config stream.yaml --trainer.callbacks+=tests.cli.run_callbacks.Record {extra}".split())


def whole_file_bits(folder, checkpoint, split):
    """Returns the bits/sample and number of samples of a split, each recording in one pass."""
    module = HarmonicModule.load_from_checkpoint(checkpoint)
    data = AudioFolder(folder / "music", clip_samples=10_000, batch_size=1, scaling="file", num_workers=0)
    data.setup("fit")
    data.setup("test")
    nats, samples = 0.0, 0
    for i in range(len(LENGTHS[split])):
        clip = data.clip(split, i)
        classes = clip.classes[clip.valid][None]
        with torch.no_grad():
            nats += sample_nats(module.net(classes)[0], classes).double().sum().item()
        samples += classes.numel()
    return nats / samples / math.log(2), samples


def test_whole_files_by_chunks_equal_whole_files_in_one_pass(recordings):
    assert fit("--samples.sample_seconds 0") == 0
    run = recordings / "logs/tiny/version_0"
    bits, samples = whole_file_bits(recordings, run / "checkpoints/best.ckpt", "test")
    for lanes in (1, 2, 3):
        assert main(f"test --data.batch_size {lanes}".split()) == 0
        report = json.loads((run / "nll_test.json").read_text())
        assert report["bits_per_sample"] == pytest.approx(bits, abs=1e-5)
        assert report["samples"] == samples == sum(LENGTHS["test"])
        assert "whole files" in report["protocol"]
        curve = report["by_position"]
        assert sum(row["samples"] for row in curve) == samples
        assert sum(row["samples"] * row["bits_per_sample"] for row in curve) / samples == pytest.approx(bits, abs=1e-5)
        assert max(row["from"] for row in curve) == 512


def test_training_carries_the_state_from_chunk_to_chunk(recordings):
    """With a learning rate of zero, the losses of lanes equal those of one pass over each whole recording."""
    assert fit("--model.optimizer.lr 1e-30 --trainer.max_steps 20 --trainer.val_check_interval 20 --samples.sample_seconds 0") == 0
    module = HarmonicModule.load_from_checkpoint(recordings / "logs/tiny/version_0/checkpoints/last.ckpt")
    data = AudioFolder(recordings / "music", clip_samples=CHUNK, batch_size=2, scaling="file", order="sequential", num_workers=0)
    data.setup("fit")
    data_whole = AudioFolder(recordings / "music", clip_samples=10_000, batch_size=1, scaling="file", num_workers=0)
    data_whole.setup("fit")
    of_recording = []
    for i in range(len(LENGTHS["train"])):
        clip = data_whole.clip("train", i)
        with torch.no_grad():
            classes = clip.classes[clip.valid][None]
            of_recording.append(sample_nats(module.net(classes)[0], classes)[0].numpy())
    order = data.order_of("train")
    steps = [batch for epoch in range(4) for batch in order.batches(epoch)][:20]
    expected = [np.concatenate([of_recording[p.recording][p.start : p.stop] for p in batch]).mean() for batch in steps]
    recorded = [row["loss"] for row in losses(recordings / "record_0.jsonl")]
    assert recorded == pytest.approx(expected, rel=1e-5)


STOPS = [("sequential", 3)]
SLOW_STOPS = [("sequential", 8), ("clips", 3), ("clips", 8), ("crops", 3), ("crops", 8)]
TWELVE_STEPS = "--trainer.precision 64-true --ema.decay 0.9 --trainer.max_steps 12 --trainer.val_check_interval 1"
TWELVE_STEPS += " --samples.sample_seconds 0 --trainer.limit_val_batches 1"


@pytest.fixture(scope="module")
def made():
    """Returns a dict: losses of uninterrupted runs by order, and folders of killed runs by order and step, and of two-step runs."""
    return {}


@pytest.fixture
def killed(recordings, made):
    """Returns a function that trains an uninterrupted run and one killed after a step, each once, and returns the losses of the first."""

    def make(order, stop):
        common, record = f"--data.order {order} {TWELVE_STEPS}", recordings / "record_0.jsonl"
        if order not in made:
            assert fit(f"{common} --trainer.logger.init_args.name whole") == 0
            made[order] = losses(record)
            record.unlink()
        if (order, stop) not in made:
            with pytest.raises(RuntimeError, match="killed"):
                fit(f"{common} --trainer.callbacks+=tests.cli.run_callbacks.Kill --trainer.callbacks.step={stop}")
            assert losses(record) == made[order][:stop]
            record.unlink()
            made[order, stop] = Path(shutil.copytree("logs/tiny", recordings / "killed"))
        else:
            shutil.copytree(made[order, stop], "logs/tiny")
        assert len(made[order]) == 12
        return made[order]

    return make


@pytest.mark.parametrize(("order", "stop"), [*STOPS, *(pytest.param(*stop, marks=pytest.mark.slow) for stop in SLOW_STOPS)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(recordings, killed, order, stop):
    """The clips are the same, and the losses too to 1e-6 in float64: from a checkpoint in or after an epoch, with other workers."""
    whole = killed(order, stop)
    workers = 1 if stop == 3 else 0
    assert fit(f"--data.order {order} {TWELVE_STEPS} --ckpt_path last --data.num_workers {workers}") == 0
    resumed = losses(recordings / "record_0.jsonl")
    assert [row["clips"] for row in resumed] == [row["clips"] for row in whole[stop:]]
    assert [row["draws"] for row in resumed] == [row["draws"] for row in whole[stop:]]
    assert [row["loss"] for row in resumed] == pytest.approx([row["loss"] for row in whole[stop:]], rel=1e-6)


def test_a_killed_run_goes_on_with_more_ranks(recordings, killed):
    """Clips and losses are the same on two ranks, each of which takes its own lanes' states."""
    whole = killed("sequential", 3)
    record = "--trainer.callbacks+=tests.cli.run_callbacks.Record"
    ends, told = as_two_ranks(recordings, f"fit --config stream.yaml {record} --data.order sequential {TWELVE_STEPS} --ckpt_path last")
    assert ends == [0, 0], told
    parts = [losses(recordings / f"record_{rank}.jsonl") for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == 9
    for expected, first, second in zip(whole[3:], *parts, strict=True):
        assert first["clips"] + second["clips"] == expected["clips"]
        assert (first["loss"] + second["loss"]) / 2 == pytest.approx(expected["loss"], rel=1e-6)


@pytest.fixture
def two_steps(recordings, made):
    """Returns a function that trains a run of two steps of an order, once, and returns its folder."""

    def make(order):
        if ("two steps", order) not in made:
            assert fit(f"--data.order {order} --samples.sample_seconds 0 --trainer.limit_val_batches 1 --trainer.max_steps 2") == 0
            (recordings / "record_0.jsonl").unlink()
            made["two steps", order] = Path(shutil.copytree("logs", recordings / "two_steps"))
        else:
            shutil.copytree(made["two steps", order], "logs")
        return recordings / "logs/tiny/version_0"

    return make


@pytest.mark.parametrize("order", ["sequential", pytest.param("clips", marks=pytest.mark.slow)])
def test_a_run_goes_on_with_the_same_samples_or_not_at_all(recordings, two_steps, capsys, order):
    common = f"--data.order {order} --samples.sample_seconds 0 --trainer.limit_val_batches 1"
    run = two_steps(order)
    before = (run / "config.yaml").read_bytes()
    go_on = f"{common} --trainer.max_steps 3 --ckpt_path last"

    def refused(extra, *parts):
        capsys.readouterr()
        assert fit(f"{go_on} {extra}") == 2
        error = capsys.readouterr().err
        assert all(part in error for part in (*parts, "--model.init_from")), error
        assert (run / "config.yaml").read_bytes() == before

    refused("--data.batch_size 1", "data.batch_size was 2", "is 1 now")
    refused("--data.batch_size 3", "data.batch_size was 2", "is 3 now")
    refused("--data.clip_samples 320", "data.clip_samples was 160", "is 320 now")
    refused("--data.seed 7", "data.seed was 0", "is 7 now")
    refused("--data.scaling none", "data.scaling was file", "is none now")
    refused("--data.order crops", f"data.order was {order}", "is crops now")
    train = recordings / "music/train"
    soundfile.write(train / "more.wav", tone(200, 9), 16_000)
    refused("", "data.root was 5 training recordings of 1965 samples", "is 6 training recordings of 2165 samples")
    (train / "more.wav").unlink()
    (train / "2.wav").rename(train / "9.wav")
    refused("", "data.root was 5 training recordings", "is 5 training recordings")
    (train / "9.wav").rename(train / "2.wav")
    assert fit(f"{go_on} --data.num_workers 1 --trainer.precision bf16-mixed") == 0
    assert [row["step"] for row in losses(recordings / "record_0.jsonl")] == [3]


def test_a_run_goes_on_from_a_checkpoint_that_does_not_know_its_samples(recordings, two_steps):
    path = two_steps("sequential") / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    (state,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    del state["of"]
    torch.save(checkpoint, path)
    assert fit("--samples.sample_seconds 0 --trainer.limit_val_batches 1 --trainer.max_steps 3 --ckpt_path last") == 0
    assert [row["step"] for row in losses(recordings / "record_0.jsonl")] == [3]


@pytest.mark.parametrize(
    ("extra", "parts"),
    [
        ("--data.clip_samples 161", ["161", "2", "multiple"]),
        ("--data.scaling clip", ["scaling: clip", "file, peak or none"]),
    ],
)
def test_what_cannot_carry_state(recordings, capsys, extra, parts):
    assert fit(extra) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in parts), error
