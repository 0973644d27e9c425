"""Tests of settings that change when a run is resumed, which are followed or refused by name, and of the end of a run."""

import shutil

import numpy as np
import pytest
import soundfile
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.optimizer import rate_factor
from tests.audio_files import make_sc09
from tests.cli.test_bad_input import expect_error

FIT = "fit --config tiny.yaml --samples.sample_seconds 0"


def last(folder):
    return torch.load(folder / "logs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)


def curve(folder, tag):
    events = EventAccumulator(str(folder / "logs/tiny/version_0"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def validated_after(folder):
    """Returns the steps after which the run was validated; curves use the index of the last step, which is one less."""
    return [step + 1 for step in curve(folder, "val/bits")]


def test_the_optimiser_goes_on_with_the_settings_of_now(run, folder, begun, caplog):
    assert last(folder)["global_step"] == 2
    changed = "--model.optimizer.lr 0.3 --model.optimizer.weight_decay 0.5 --model.optimizer.betas=[0.8,0.9]"
    with caplog.at_level("INFO"):
        assert run(f"{FIT} --ckpt_path last {changed}") == 0
    decayed, other = last(folder)["optimizer_states"][0]["param_groups"]
    assert (decayed["weight_decay"], other["weight_decay"]) == (0.5, 0.0)
    assert {group["initial_lr"] for group in (decayed, other)} == {0.3}
    assert [tuple(group["betas"]) for group in (decayed, other)] == [(0.8, 0.9)] * 2
    for line in ("lr is 0.3 from here on, and was 0.002", "weight_decay is 0.5 from here on, and was 0.1", "betas is (0.8, 0.9)"):
        assert f"model.optimizer.{line}" in caplog.text
    rates = curve(folder, "z_schedule/lr-AdamW/pg1")
    assert rates[2] == pytest.approx(0.3 * rate_factor(2, 4, 0.4), rel=1e-5)
    assert rates[3] == pytest.approx(0.3 * rate_factor(3, 4, 0.4), rel=1e-5)


@pytest.mark.usefixtures("begun")
def test_other_groups_of_weights_are_refused(run, capsys):
    expect_error(run, capsys, f"{FIT} --ckpt_path last --model.optimizer.decayed all", "trained with model.optimizer.decayed matrices")


def test_other_recordings_of_the_same_names_and_lengths_are_refused(run, folder, begun, capsys):
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    path = sorted((folder / "data/three").glob("*.wav"))[0]
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 320), 16_000)
    expect_error(run, capsys, f"{FIT} --ckpt_path last", "data.root was recordings with samples of the checksum", "start a new training")
    assert {path: path.read_bytes() for path in before} == before
    shutil.rmtree(folder / "data")
    make_sc09(folder / "data")  # the same files, written again
    assert run(f"{FIT} --ckpt_path last") == 0


def test_a_finished_run_goes_on_with_the_rate_of_its_whole_length_and_ends_with_a_validation(run, folder, ready, caplog):
    with caplog.at_level("INFO"):
        assert run(f"{FIT} --ckpt_path last --trainer.max_steps 7") == 0
    assert f"The learning rate is {0.002 * rate_factor(4, 7, 0.7):.3g} from here on, and was 0" in caplog.text
    rates = curve(folder, "z_schedule/lr-AdamW/pg1")
    assert [rates[step] for step in (4, 5, 6)] == pytest.approx([0.002 * rate_factor(step, 7, 0.7) for step in (4, 5, 6)], rel=1e-5)
    assert validated_after(folder) == [2, 4, 6, 7]


@pytest.mark.parametrize(
    ("settings", "validated"),
    [
        pytest.param("--trainer.max_steps 3", [2, 3], marks=pytest.mark.slow),  # as the third case, without accumulation
        ("--trainer.max_steps -1 --trainer.max_epochs 1", [2, 4, 5]),  # 20 clips, 4 per batch
        ("--trainer.max_steps 3 --trainer.accumulate_grad_batches 2 --trainer.val_check_interval 4", [2, 3]),
    ],
)
def test_the_last_step_is_validated(run, folder, settings, validated):
    assert run(f"{FIT} {settings}") == 0
    assert validated_after(folder) == validated


def test_without_validation_there_is_none_at_the_end(run, folder):
    assert run(f"{FIT} --trainer.max_steps 3 --trainer.limit_val_batches 0 --trainer.log_every_n_steps 0") == 0
    assert last(folder)["global_step"] == 3
    assert not (folder / "logs/tiny/version_0/checkpoints/best.ckpt").exists()


def test_the_schedule_comes_to_its_end_with_the_time(run, folder, caplog):
    """A few of a million steps are made; the last one has a rate of nearly zero and is validated. Nothing is resumed."""
    with caplog.at_level("INFO"):
        assert run(f"{FIT} --trainer.max_steps 1000000 --trainer.max_time 00:00:00:03 --trainer.val_check_interval 1000000") == 0
    assert "goes on" not in caplog.text
    step = last(folder)["global_step"]
    assert 1 < step < 1_000_000
    assert validated_after(folder) == [step]
    (group, *_) = last(folder)["optimizer_states"][0]["param_groups"]
    assert group["lr"] < 0.1 * group["initial_lr"]
