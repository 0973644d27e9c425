"""Experiments on tiny models, each run a fork of this process."""

import json
import os
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from benchmarks.experiments import __main__ as program
from benchmarks.experiments.__main__ import EXPERIMENTS
from benchmarks.experiments.comparisons import BEST_RATE, CONFIG, EQUAL_TIME, LONG_RUNS, MODELS, ablations, baselines, context, rates
from benchmarks.experiments.declare import ROOT, Experiment, Run
from benchmarks.experiments.measured import sample
from benchmarks.experiments.report import made_by, report, spread, table
from benchmarks.experiments.results import CODE, cell, code_hash, config_hash, number, points, read, stale, write
from benchmarks.experiments.runner import arguments, taken
from harmonicrnn.generation.engine import PlainEngine
from tests.audio_files import make_folder
from tests.cli.conftest import without_pictures
from tests.forking import in_child, status_of

TINY = {
    "model.levels": [{"width": 8, "depth": 1, "factor": 4}, {"width": 8, "depth": 1}],
    "data.distance": 32,
    "data.min_distance": None,
    "data.pairs": 2,
    "data.recordings": 16,
    "trainer.max_steps": 4,
    "trainer.val_check_interval": 2,
    "trainer.log_every_n_steps": 2,
}
TINY_STEPS = {"trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1}


def make_run(name="a", after=None, tests=None, sampled=0, k=32, **changes):
    return Run(name, "configs/memory.yaml", TINY | changes, {"k": k, "model": "tiny"}, after, tests or {"repeat": {}}, sampled)


hash_of_the_code = cache(code_hash)


@pytest.fixture
def cheap(tmp_path, monkeypatch):
    """Runs in a folder of its own, without what takes long and is not looked at here."""
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    monkeypatch.setattr("benchmarks.experiments.runner.code_hash", hash_of_the_code)
    monkeypatch.setattr("harmonicrnn.generation.sampler.make_engine", PlainEngine)  # the other is compiled first


@pytest.fixture
def run(cheap, monkeypatch):
    """Makes an experiment `tiny` of some runs, runs it, and returns the exit status."""

    def call(*runs, only="null"):
        monkeypatch.setitem(EXPERIMENTS, "tiny", lambda: Experiment("tiny", "Does it run?", runs, curve="k"))
        return program.main(["--run", "tiny", "--device", "cpu", "--out", "out", "--only", only])

    return call


def results(folder):
    return {f"{row['run']}_seed{row['seed']}": row for row in read(folder / "out/results.csv", EXPERIMENTS["tiny"]())}


@pytest.mark.slow
def test_runs_are_measured_once_and_again_where_what_they_are_told_changes(run, tmp_path, capsys):
    """Three trainings of four steps, with what is measured after each; the first of them asked for alone."""
    a = make_run(tests={"repeat": {}, "cut": {"data.clip_samples": 48}}, sampled=8)
    assert run(a, make_run("b", "a", k=64), only="[a]") == 0
    assert list(results(tmp_path)) == ["a_seed0"]
    capsys.readouterr()
    assert run(a, make_run("b", "a", k=64)) == 0
    assert capsys.readouterr().out.count("finished before") == 1
    found = results(tmp_path)
    first = found["a_seed0"]
    assert number(first, "samples_seen") == 4 * 8 * (2 * (32 + 16) + 16)
    assert [step for step, _ in points(first, "validation")] == [2, 4]
    assert number(first, "repeat samples") == number(first, "cut samples") == 2 * 2 * 4
    assert min(number(first, key) for key in ("peak_memory", "samples_per_second", "sampled_per_second", "seconds")) > 0
    assert "a_seed0/version_0/checkpoints/best.ckpt" in (tmp_path / "out/runs/b_seed0/version_0/config.yaml").read_text()
    table = (tmp_path / "out/README.md").read_text()
    repeat, cut = (number(first, f"{test} bits") for test in ("repeat", "cut"))
    assert f"| 32 | tiny | {repeat:.3f} | {cut:.3f} |" in table
    assert (tmp_path / "out/nll_cut.svg").stat().st_size > 0
    assert run(a, make_run("b", "a", k=64, **{"model.optimizer.lr": 1e-3})) == 0
    assert capsys.readouterr().out.count("finished before") == 1
    after = results(tmp_path)
    assert after["a_seed0"] == first
    assert after["b_seed0"]["config"] != found["b_seed0"]["config"]
    assert after["b_seed0"]["repeat bits"] != found["b_seed0"]["repeat bits"]


def test_an_attempts_line_that_a_kill_cut_short_is_passed_over(tmp_path):
    path = tmp_path / "attempts.jsonl"
    path.write_text('\n{"status": 75}\n\n{"status": 75, "sec\n{"status": 0}\n')
    assert taken(path) == [{"status": 75}, {"status": 0}]


def test_a_run_that_was_stopped_goes_on(run, tmp_path, capsys):
    """Four steps, one of them after a signal."""
    stop = {"trainer.callbacks": [{"class_path": "tests.cli.run_callbacks.SignalAt", "init_args": {"step": 2}}]}
    assert run(make_run(**stop)) == 2
    assert "a_seed0: fit: asked to stop; the same command goes on from there" in capsys.readouterr().err
    assert not results(tmp_path)
    assert run(make_run(**stop)) == 0
    result = results(tmp_path)["a_seed0"]
    assert [result[key] for key in ("steps", "went_on", "attempts")] == ["4", "true", "2"]
    attempts = taken(tmp_path / "out/runs/a_seed0/attempts.jsonl")
    assert number(result, "seconds") == sum(attempt["seconds"] for attempt in attempts) > attempts[1]["seconds"] > 0
    assert number(result, "peak_memory") == max(attempt["peak_memory"] for attempt in attempts)
    assert "| tiny † |" in (tmp_path / "out/README.md").read_text()


def test_recordings_in_place_of_the_experiments_own_data(cheap, tmp_path, monkeypatch, capsys):
    """Counts, in two steps."""
    for split in ("train", "validation", "test"):
        make_folder(tmp_path / "takes" / split, 2, samples=4096, rate=4000)
    counts = Run("a", CONFIG, {"model": "lightning_modules.CountsModule", **TINY_STEPS}, {"model": "counts"})
    experiment = Experiment("tiny", "?", (counts,), quick={"data.sample_rate": 4000}, any_data=True)
    monkeypatch.setitem(EXPERIMENTS, "tiny", lambda: experiment)
    assert program.main(["--run", "tiny", "--device", "cpu", "--quick", "--data", "takes"]) == 0
    folder = tmp_path / "logs/experiments/tiny_takes_quick"
    (result,) = read(folder / "results.csv", experiment)
    assert not stale(result, experiment, experiment.over_all(quick=True, data=Path("takes")))
    assert number(result, "test samples") == 2 * 4096
    told = json.loads((folder / "runs/a_seed0/version_0/nll_test.json").read_text())
    assert number(result, "test predictors") == told["untrained"][0]["bits_per_sample"] > 0
    assert "--data takes`, 1 seed" in (folder / "README.md").read_text()
    assert result["config"] != config_hash(experiment, counts, 0, experiment.quick, "cpu")
    capsys.readouterr()
    assert program.main(["--run", "memory", "--data", "takes"]) == 2
    assert program.main(["--run", "baselines", "--data", "nowhere"]) == 2
    printed = capsys.readouterr().err
    assert "--data takes: memory needs the data that it makes" in printed
    assert "--data nowhere: there is no such folder" in printed


def make_row(experiment, run, **changes):
    """A row of a CPU's run."""
    machine = dict.fromkeys(("code", "commit", "date", "processor", "threads"), 'a "b", c') | {"device": "cpu", "went_on": "false"}
    counts = dict.fromkeys(("parameters", "steps", "samples_seen", "seconds"), "3")
    told = config_hash(experiment, run, 0, {}, "cpu")
    return {"run": run.name, "seed": "0", "config": told, **machine, **counts, "validation": "2:0.5 4:1e-09"} | changes


def test_results_are_read_as_they_were_written(tmp_path):
    a, b = make_run("a"), make_run("b")
    experiment = Experiment("tiny", "?", (a, b))
    curve = [(2, 1 / 3), (4, 1e-9)]
    values = {"peak_memory": None, "seconds": 1 / 3, "went_on": True, "validation": curve}
    rows = [make_row(experiment, a, **{key: cell(value) for key, value in values.items()}), make_row(experiment, b, **{"cut bits": "0.1"})]
    write(tmp_path / "results.csv", rows)
    first, second = read(tmp_path / "results.csv", experiment)
    assert (first, second) == (rows[0] | {"cut bits": ""}, rows[1] | {"peak_memory": ""})
    assert (points(first, "validation"), number(first, "seconds"), number(first, "peak_memory")) == (curve, 1 / 3, None)


def test_the_row_of_the_linear_predictors_is_of_one_set_of_data():
    """Results that do not know it count for nothing."""
    a, b = make_run("a"), make_run("b")
    experiment = Experiment("tiny", "?", (a, b))
    bits = [{"repeat bits": "2.0", "repeat predictors": value} for value in ("1.5", "", "1.25")]
    known, unknown, other = (make_row(experiment, run, **each) for run, each in zip((a, b, b), bits, strict=True))
    assert "| linear predictors alone |  | 1.500 | - | - |" in table(experiment, [known, unknown], {})
    assert "linear predictors" not in table(experiment, [unknown], {})
    assert "linear predictors" not in table(experiment, [known, other], {})


def test_the_footer_tells_the_numbers_of_seeds():
    a, b = make_run("a"), make_run("b")
    experiment = Experiment("tiny", "?", (a, b))
    rows = [make_row(experiment, a), make_row(experiment, a, seed="1"), make_row(experiment, b)]
    assert "--run tiny`, 1 or 2 seeds per run, in" in made_by(experiment, rows, {})
    assert "--run tiny`, 1 seed per run, in" in made_by(experiment, rows[:1], {})


def test_results_of_removed_runs_are_left_out_and_those_of_other_settings_marked(tmp_path):
    a, b, c = make_run("a"), make_run("b"), make_run("c")
    experiment, path = Experiment("tiny", "?", (b, a)), tmp_path / "results.csv"
    write(path, [make_row(experiment, a), make_row(Experiment("tiny", "?", (c,)), c), make_row(experiment, b)])
    found = read(path, experiment)
    assert [(row["run"], stale(row, experiment, {})) for row in found] == [("b", False), ("a", False)]
    changed = Experiment("tiny", "?", (b, make_run("a", **{"trainer.max_steps": 5})))
    assert [stale(row, changed, {}) for row in found] == [False, True]
    assert table(changed, found, {}).count("told something else") == 1
    assert config_hash(experiment, a, 0, {}, "cuda") != config_hash(experiment, a, 0, {}, "cpu")


def test_the_code_that_results_follow_from_is_there():
    assert all(any((ROOT / folder).rglob("*.py")) for folder in CODE)


def test_where_the_recordings_lie_does_not_count(tmp_path):
    experiment = baselines()
    run = experiment.runs[0]

    def hash_of(folder):
        folder.mkdir(parents=True)
        return config_hash(experiment, run, 0, experiment.over_all(data=folder), "cpu")

    here = hash_of(tmp_path / "a/piano")
    assert hash_of(tmp_path / "b/piano") == here
    assert hash_of(tmp_path / "b/speech") != here


def test_only_what_a_run_is_told_counts(tmp_path, monkeypatch):
    """Neither comments in its config nor values there that it sets itself; not whose a value is (its own, its config's or the base's), nor
    whether an argument of a class stands below init_args."""
    for module in ("declare", "results"):
        monkeypatch.setattr(f"benchmarks.experiments.{module}.ROOT", tmp_path)
    (tmp_path / "configs").mkdir()

    def hash_of(config, base="d: 3", **settings):
        (tmp_path / "configs/base.yaml").write_text(base)
        (tmp_path / "config.yaml").write_text(config)
        run = Run("r", "config.yaml", {"a.b": 5} | settings)
        return config_hash(Experiment("tiny", "?", (run,)), run, 0, {}, "cpu")

    expected = hash_of("a: {init_args: {b: {c: 1}}}\nd: 2")
    assert hash_of("# of d\na: {b: {c: 3}}\nd: 2") == expected
    assert hash_of("a: {b: 1}", d=2) == expected
    assert hash_of("a: {b: 1}", base="d: 2\nfad: {clips: 1}") == expected
    assert hash_of("a: {b: {c: 1}}\nd: 4") != expected
    assert hash_of("a: {b: {c: 1}}") != expected


def test_all_experiments_have_results():
    assert {path.name for path in (ROOT / "docs/results").iterdir() if path.is_dir()} >= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_results_in_the_repository_are_of_what_is_declared(name, monkeypatch):
    monkeypatch.setattr("benchmarks.experiments.results.OmegaConf.load", cache(OmegaConf.load))  # of each row, the same files
    experiment = EXPERIMENTS[name]()
    folder = ROOT / "docs/results" / name
    found = read(folder / "results.csv", experiment)
    assert {row["run"] for row in found} == {run.name for run in experiment.runs}
    page = (folder / "README.md").read_text()
    written = table(experiment, found, {})
    assert "told something else" not in written
    assert written in page
    assert made_by(experiment, found, {}) in page


def test_speed_is_measured_on_the_device_that_is_named(tmp_path, monkeypatch):
    """Also where there is a GPU."""
    places = []
    module = SimpleNamespace(to=lambda device: places.append(device) or module, eval=lambda: module, net=None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("lightning_modules.load_module", lambda path: module)
    monkeypatch.setattr("harmonicrnn.generation.generate", lambda *args, **kwargs: None)
    assert sample(tmp_path / "a.ckpt", 8, tmp_path / "sampled.json", "cpu") == 0
    assert places == ["cpu"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert program.main(["--run", "memory", "--out", str(tmp_path / "file/deeper")]) == 2
    assert "file/deeper: cannot be written" in capsys.readouterr().err


def test_a_run_that_fails_says_why(run, tmp_path, capsys):
    assert run(make_run(**{"data.distance": 33})) == 2
    assert "data.distance (33) must be a multiple of data.grid (16)" in capsys.readouterr().err
    assert not results(tmp_path)


def test_a_reader_of_the_list_that_has_enough_ends_it(tmp_path):
    """With nothing said of it, also where what is left is written at the end."""
    reader, writer = os.pipe()
    os.close(reader)

    def listing():
        os.dup2(writer, 1)
        return program.main(["--list"])

    child = in_child(listing, tmp_path / "said.txt")
    os.close(writer)
    assert status_of(child) == 0
    assert (tmp_path / "said.txt").read_text() == ""


def test_list_names_the_runs(capsys):
    assert program.main(["--list"]) == 0
    listed = capsys.readouterr().out
    for name, build in EXPERIMENTS.items():
        assert f"{name}: " in listed
        assert all(f"    {run.name}" in listed for run in build().runs)


def test_what_there_is_not(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program.main(["--run", "none"]) == 2
    assert "there is no experiment none: choose among memory" in capsys.readouterr().err
    assert program.main(["--report", "memory"]) == 2
    assert "no results of memory yet" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_declarations_fit(name):
    """Names are unique, each run comes after the one that it begins with, and what they name is there."""
    experiment = EXPERIMENTS[name]()
    names = [run.name for run in experiment.runs]
    assert len(set(names)) == len(names)
    assert all(run.after is None or run.after in names[:i] for i, run in enumerate(experiment.runs))
    assert all((ROOT / run.config).is_file() for run in experiment.runs)
    assert set(experiment.trial) <= set(names)


def test_spread():
    assert spread([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert spread([1234.5], 0) == "1,234"
    assert spread([1.0, None], 1) == "-"


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Small folders where the experiments' configs look for recordings."""
    monkeypatch.chdir(tmp_path)
    for name in ("music", "piano"):
        for split in ("train", "validation", "test"):
            make_folder(tmp_path / "data" / name / split, 2, samples=80_000, rate=16_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_trial_of_every_experiment(name, recordings):
    """About two minutes each: dozens of trainings of a few steps."""
    assert program.main(["--run", name, "--quick", "--seeds", "1", "--device", "cpu"]) == 0
    experiment = EXPERIMENTS[name]()
    table = Path(f"logs/experiments/{name}_quick/README.md").read_text().split("\n\n")[2]
    rows = table.count("\n| ") - table.count("\n| linear predictors alone |")
    assert rows == len(experiment.trial or experiment.runs)


@pytest.mark.parametrize(
    ("build", "longer"),
    [
        (ablations, ["unpooled_time"]),
        (rates, []),
        (baselines, [*(f"{name}_20M" for name in MODELS if name != "gru"), *(f"{name}_200M" for name in LONG_RUNS)]),
    ],
)
def test_every_run_sees_the_same_clips_and_as_many(build, longer):
    """Recordings, of the user's choice too; but for those that say so."""
    experiment = build()
    assert {run.config for run in experiment.runs} == {CONFIG}
    assert experiment.any_data
    assert [run.name for run in experiment.runs if any(key.startswith(("data.", "trainer.")) for key in run.settings)] == longer


@pytest.mark.parametrize("build", [ablations, baselines])
def test_every_run_has_the_same_peak_rate(build):
    assert {run.settings["model.optimizer.lr"] for run in build().runs} == {BEST_RATE}


def test_the_steps_of_equal_time_follow_from_the_base():
    """An unpooled step takes 1.48 times as long."""
    assert round(OmegaConf.load(ROOT / CONFIG).trainer.max_steps / 1.48) == EQUAL_TIME


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Returns the untrained network of a run, built by the command line."""
    from cli import main, training_cli

    monkeypatch.chdir(tmp_path)
    nets = []
    monkeypatch.setattr(training_cli.HarmonicCLI, "_run_subcommand", lambda self, name: nets.append(self.model.net))

    def build(run):
        assert main(["fit", "--config", str(ROOT / run.config), *arguments(run.settings)]) == 0
        return nets.pop()

    return build


def test_the_baselines_have_as_many_trained_parameters_within_5_percent(built):
    counts = {
        run.labels["model"]: sum(p.numel() for p in built(run).parameters() if p.requires_grad) for run in baselines().runs[: len(MODELS)]
    }
    assert set(counts) == set(MODELS)
    assert counts["harmonic"] == 63_840
    assert {name: count for name, count in counts.items() if abs(count - 63_840) > 0.05 * 63_840} == {}


def test_each_step_of_the_context_experiment_has_as_many_samples():
    steps = {run.settings["data.clip_samples"] * run.settings["data.batch_size"] for run in context().runs}
    assert steps == {32_000}


def test_a_run_that_is_asked_for_and_not_there(run, capsys):
    assert run(make_run("a"), make_run("b", "a", k=64), only="[c]") == 2
    assert "--only: tiny has no run c; --list names its runs" in capsys.readouterr().err


def test_the_likelihood_against_the_samples_before(tmp_path):
    """Kept in the CSV, and reported at every second octave."""
    a = make_run("a")
    experiment = Experiment("tiny", "?", (a,), positions=True)
    positions = cell([(0, 7.5), (1, 3.0), (2, 2.5), (4, 1 / 3)])
    row = make_row(experiment, a, **{"whole bits": "2.0", "whole samples": "9", "whole positions": positions})
    write(tmp_path / "results.csv", [row])
    assert read(tmp_path / "results.csv", experiment) == [row]
    text = report(experiment, tmp_path / "results.csv", tmp_path, {}).read_text()
    assert "| samples before, from | a, whole |\n|---|---|\n| 0 | 7.500 |\n| 1 | 3.000 |\n| 4 | 0.333 |\n" in text
    assert (tmp_path / "positions_whole.svg").stat().st_size > 0
