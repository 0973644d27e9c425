"""Checks that a side product which cannot be written costs a warning, never the run, and that files under their final name are complete."""

import json
from pathlib import Path

import pytest
import torch

from callbacks.forgiving_loggers import Curves, Table
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import FolderClips
from harmonicrnn.files import side_product, write_json
from harmonicrnn.machine_code import kept
from tests.cli.test_bad_input import expect_error

FIT = "fit --config tiny.yaml"


def told(warned):
    return "\n".join(str(warning.message) for warning in warned)


def test_training_goes_on_without_what_cannot_be_written(run, folder, monkeypatch):
    version = folder / "logs/tiny/v"
    version.mkdir(parents=True)
    # A file in place of a folder, or the reverse, stops root too.
    for name in ("samples", "fad"):
        (version / name).touch()
    for name in ("run.json", "hparams.yaml"):
        (version / name).mkdir()
    monkeypatch.setattr("callbacks.nll_report.position_figure", lambda curves: 1 / 0)
    with pytest.warns(UserWarning, match="left out") as warned:
        assert run(f"{FIT} --trainer.logger.init_args.version v --fad.clips 2 --fad.cache cache") == 0
    for name in ("samples: step 2", "samples: step 4", "fad/step_0000002.json", "run.json", "val/bits_by_position"):
        assert f"{name}: left out: " in told(warned)
    assert torch.load(version / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4


def test_curves_end_where_they_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for kind in (Curves, Table):
        with pytest.warns(UserWarning, match="curves: left out: Not a directory"):
            kind(tmp_path / "file").log_metrics({"train/bits": 1.0}, 1)
    table = Table(tmp_path / "logs", flush_logs_every_n_steps=1)
    table.log_metrics({"a": 1.0}, 1)
    (tmp_path / "logs/lightning_logs/version_0/metrics.csv").unlink()
    (tmp_path / "logs/lightning_logs/version_0/metrics.csv").mkdir()
    with pytest.warns(UserWarning, match="curves: left out: Is a directory"):
        table.log_metrics({"a": 1.0}, 2)
    table.finalize("success")
    curves = Curves(tmp_path / "logs")
    curves.log_metrics({"a": 1.0}, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.warns(UserWarning, match="curves: left out: No space left on device"):  # in the writer's thread
        [curves.log_metrics({"a": 1.0}, step) for step in range(1000)]
    curves.save()
    curves.finalize("success")


def test_a_number_that_is_measured_is_told_where_it_cannot_be_written(run, ready, capsys):
    (ready / "nll_test.json/x").mkdir(parents=True)
    capsys.readouterr()
    with pytest.warns(UserWarning, match=r"nll_test\.json: left out: Is a directory"):
        assert run("test") == 0
    assert "bits/sample" in capsys.readouterr().out


def test_results_of_other_checkpoints_and_of_a_part_do_not_take_the_place_of_one(run, ready):
    def found():
        return {path.name: json.loads(path.read_text()) for path in ready.glob("nll_test*.json")}

    assert run("test --ckpt_path last") == 0
    assert run("test --ckpt_path last --data.batch_size 1 --trainer.limit_test_batches 1") == 0
    assert {name: report["clips"] for name, report in found().items()} == {"nll_test.json": 2, "nll_test_partial.json": 1}
    content = torch.load(ready / "checkpoints/best.ckpt", weights_only=True)
    content["global_step"] = 3  # another step
    torch.save(content, ready / "checkpoints/best.ckpt")
    assert run("test") == 0
    steps = {name: report["step"] for name, report in found().items()}
    assert steps == {"nll_test.json": 3, "nll_test_partial.json": 4, "nll_test_last_4.json": 4}
    assert run("test --data.batch_size 1 --trainer.limit_test_batches 1") == 0
    parts = {name: report["step"] for name, report in found().items() if "partial" in name}
    assert parts == {"nll_test_partial.json": 3, "nll_test_partial_last_4.json": 4}


def test_a_result_of_another_checkpoint_that_cannot_be_moved_away_is_not_written_over(run, ready, capsys, monkeypatch):
    (ready / "nll_test.json").write_text('{"sha256": "another"}')

    replace = Path.replace

    def refuse(self, target):
        if self.name == "nll_test.json":
            raise PermissionError(1, "Operation not permitted")
        return replace(self, target)

    monkeypatch.setattr("callbacks.nll_report.Path.replace", refuse)
    with pytest.warns(UserWarning, match=r"nll_test\.json: left out: Operation not permitted"):
        assert run("test") == 0
    assert (ready / "nll_test.json").read_text() == '{"sha256": "another"}'
    assert "bits/sample" in capsys.readouterr().out


def test_weights_that_are_not_finite_give_an_error_and_no_file(run, ready, capsys):
    for path in (ready / "checkpoints").iterdir():
        content = torch.load(path, weights_only=True)
        for value in content["state_dict"].values():
            value.fill_(torch.nan)
        torch.save(content, path)
    for command in ("test", "validate --ckpt_path last"):
        expect_error(run, capsys, command, ".ckpt: its likelihoods are not finite")
    expect_error(run, capsys, "generate --seconds 0.001", "not finite")
    assert not list(ready.glob("nll_*"))


def test_numbers_that_json_does_not_know_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"bits": float("nan")})
    assert not list(tmp_path.iterdir())


def test_compiled_code_that_can_be_kept_nowhere_is_compiled_all_the_same(tmp_path, monkeypatch):
    def add(a, b):
        return a + b

    def nowhere(*_):
        raise RuntimeError("no locator available")

    monkeypatch.setattr("numba.core.caching.FunctionCache.save_overload", nowhere)
    monkeypatch.setattr("numba.core.caching.FunctionCache.load_overload", nowhere)
    with pytest.warns(UserWarning, match="compiled code: left out: no locator available"):
        assert kept(add)(1, 2) == 3
    monkeypatch.setattr("numba.core.caching.FunctionCache.__init__", nowhere)
    with pytest.warns(UserWarning, match="each start compiles anew"):
        assert kept(add)(1, 2) == 3


def test_a_folder_whose_clips_are_not_all_there_is_not_measured(run, folder, ready):
    assert run("generate --seconds 0.01 --clips 3 --out clips") == 0
    assert len(FolderClips(folder / "clips").files) == 3
    manifest = folder / "clips/manifest.json"
    whole = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(whole | {"complete": False, "clips": whole["clips"][:2]}))
    with pytest.raises(UserError, match="clips: is incomplete: 2 of 3 clips are there"):
        FolderClips(folder / "clips")
    manifest.write_text(json.dumps(whole))
    (folder / "clips/clip_0001.wav").unlink()
    with pytest.raises(UserError, match="clips: is incomplete: 2 of 3 clips are there"):
        FolderClips(folder / "clips")


def test_a_side_product_that_fails_says_why():
    with pytest.warns(UserWarning, match=r"^picture: left out: No space left on device$"), side_product("picture"):
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyboardInterrupt), side_product("picture"):
        raise KeyboardInterrupt
