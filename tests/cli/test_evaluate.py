"""Tests of `train.py evaluate`, on the run of a tiny training."""

import html
import itertools
import json
import math
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import torch
from rich.progress import Progress

from cli import main
from datamodules import SC09
from harmonicrnn import load
from harmonicrnn.evaluation.digit_evaluation import accuracy_of
from harmonicrnn.evaluation.untrained import UNIGRAM, measure_untrained
from harmonicrnn.generation.clip_folder import Generated
from harmonicrnn.metrics import (
    GaussianFit,
    LogMel,
    digit_reference,
    digit_scores,
    frechet_distance,
    select_by_likelihood,
)
from harmonicrnn.models import sample_nats
from harmonicrnn.models.predictors_alone import FILTERS
from tests.audio_files import make_folder, make_sc09, tone
from tests.cli.conftest import CONFIG, without_pictures
from tests.cli.test_bad_input import expect_error
from tests.harmonicrnn.evaluation.test_digit_evaluation import Loudness

BEST = "logs/tiny/version_0/checkpoints/best.ckpt"
FEW = "--clips 3 --batch 2 --examples 1 --cache kept"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns a folder with a finished run, recordings at another rate in `takes`, and the evaluation of both in `report`."""
    folder = tmp_path_factory.mktemp("trained")
    make_sc09(folder / "data")
    make_folder(folder / "takes", 3, samples=1000, rate=8000)
    (folder / "tiny.yaml").write_text(CONFIG.format(root=folder / "data"))
    (folder / "folder.yaml").write_text("data: {class_path: datamodules.AudioFolder, init_args: {root: takes}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["train.py"])
        torch.set_num_threads(1)
        without_pictures(patch)
        assert main(["fit", "--config", "tiny.yaml", "--trainer.max_steps", "2"]) == 0
        assert main(f"evaluate logs/tiny takes logs/tiny/version_0/checkpoints/last.ckpt {FEW} --extrapolate --out report".split()) == 0
    return folder


@pytest.fixture
def folder(trained, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setattr("sys.argv", ["train.py"])
    return trained


@pytest.fixture
def run(folder):
    return lambda command: main(command.split())


@pytest.fixture
def no_page(folder, monkeypatch):
    """Skips the page, whose pictures take half of the time; it is checked in the report of `trained`."""
    monkeypatch.setattr("cli.evaluate_command.write_page", lambda path, *_: path.touch())


@pytest.fixture
def report(folder):
    return json.loads((folder / "report/report.json").read_text())


def test_likelihood_is_that_of_test_and_of_each_clip(run, folder, report):
    assert run("test") == 0
    tested = json.loads((folder / "logs/tiny/version_0/nll_test.json").read_text())
    nll = report["subjects"][0]["nll"]
    assert nll["bits_per_sample"] == pytest.approx(tested["bits_per_sample"], rel=1e-6)
    assert (nll["samples"], nll["clips"]) == (tested["samples"], tested["clips"]) == (540, 2)
    for row, expected in zip(nll["by_position"], tested["by_position"], strict=True):
        assert row == pytest.approx(expected)
    net, data = load(folder / "logs/tiny/version_0").net, SC09(folder / "data", clip_samples=320, num_workers=0)
    data.setup("test")
    for i, bits in enumerate(nll["per_clip"]):
        clip = data.clip("test", i)
        classes = clip.classes[clip.valid][None]
        with torch.no_grad():
            assert bits == pytest.approx(sample_nats(net(classes)[0], classes).double().mean().item() / math.log(2), rel=1e-5)
    low, high = nll["interval"]
    ends = min(nll["per_clip"]), low, nll["bits_per_sample"], high, max(nll["per_clip"])
    assert all(b - a > -1e-12 for a, b in itertools.pairwise(ends))  # a mean of equal values may be off by one rounding


def test_what_needs_no_training_stands_beside_the_likelihood(folder, report):
    data = SC09(folder / "data", clip_samples=320, num_workers=0)
    data.setup("test")
    known = measure_untrained(data, "test", folder / "kept", training=data.with_training())
    assert [row["name"] for row in report["untrained"]] == [each.name for each in known] == [*FILTERS, UNIGRAM]
    for row, each in zip(report["untrained"], known, strict=True):
        assert row["values"] == {"NLL": {"value": pytest.approx(each.bits_per_sample), "interval": [*each.interval], "mark": ""}}
        assert row["clips"] == 2
    # The model was trained for only two steps.
    assert sum("worse than linear predictors without any training" in note for note in report["notes"]) == 2
    page = (folder / "report/report.html").read_text()
    assert page.count("without any training, 2 clips") == len(known)


def test_distance_is_that_of_the_drawn_clips_from_the_split(folder, report):
    embedder, voice = LogMel(16_000), load(folder / "logs/tiny/version_0")
    data = SC09(folder / "data", clip_samples=320, num_workers=0)
    data.setup("test")
    drawn = [np.load(folder / f"report/clips/0_tiny_version_0/generated/clip_{i:04d}.npy") for i in range(3)]
    fits = []
    for clips in ([data.audio("test", i) for i in range(2)], [voice.quantiser.decode_centre(torch.from_numpy(c)) for c in drawn]):
        fits.append(GaussianFit(64))
        fits[-1].update(torch.cat(embedder(clips)))
    expected = frechet_distance(*(fit.compute() for fit in fits))
    fad = report["subjects"][0]["fad"]["logmel"]
    assert fad["distance"] == pytest.approx(expected, rel=1e-6)
    assert expected > 1
    assert (fad["clips"], fad["embeddings"]) == (3, 3)
    assert fad["interval"][0] <= fad["distance"] <= fad["interval"][1]
    # There are too few clips, and no extrapolation: both are noted.
    assert [note.split(" ")[0] for note in fad["notes"]] == ["its", "reference:", "FAD-infinity"]
    mark = report["subjects"][0]["values"]["FAD logmel"]["mark"]
    assert "65 clips of this length would do" in mark  # one more than there are dimensions, with one embedding each
    assert "its clips" in mark
    assert "FAD-infinity" not in mark
    assert "tiny/version_0, FAD logmel: its clips: 3 embeddings of 64 dimensions" in " ".join(report["notes"])


def test_several_subjects_and_where_they_come_from(folder, report):
    best, takes, last = report["subjects"]
    assert [s["name"] for s in report["subjects"]] == ["tiny/version_0", "takes", "tiny/version_0 last"]
    assert best["provenance"]["checkpoint"] == BEST
    assert len(best["provenance"]["sha256"]) == 64
    assert best["provenance"]["training"]["seed"] == 1
    assert best["config"] == (folder / "logs/tiny/version_0/config.yaml").read_text()
    assert best["parameters"] == sum(p.numel() for p in load(folder / BEST).net.parameters())
    assert last["provenance"]["checkpoint"].endswith("last.ckpt")
    assert "nll" not in takes
    assert takes["provenance"]["treated"] == [
        "3 of 3 files resampled from 8000 to 16000 Hz",
        "scaled and quantised as the data: mu-law 8 bit, scaling clip",
    ]
    # 1,000 samples at 8 kHz are six clips of 320 at 16 kHz and a remainder.
    assert takes["clips"] == takes["fad"]["logmel"]["clips"] == 18
    assert report["reference"]["clips"] == 2
    assert len(report["reference"]["checksum"]) == 64
    assert report["embeddings"] == [{"name": "logmel", "rate": 16_000, "dimensions": 64, "weights": {}, "reference": 2}]
    assert report["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert report["settings"]["drawing"]["clips"] == 3
    assert report["command"].startswith("python train.py evaluate logs/tiny takes")


SCRIPT = """<script>
const clips = [...document.querySelectorAll("audio")], pictures = [...document.images];
const bytes = Uint8Array.from(atob(clips[1].src.split(",")[1]), (c) => c.charCodeAt(0));
new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer).then((heard) => {
  const loudest = Math.max(...heard.getChannelData(0).map(Math.abs));
  const told = {audio: clips.length, seen: pictures.filter((p) => p.naturalWidth > 0).length, length: heard.length, loudest,
    rows: document.querySelectorAll("#results tbody tr").length};
  document.body.textContent = JSON.stringify(told);
});
</script></body>"""

FRAME = """<body><iframe src="page.html" width="420" height="900" style="border: 0"></iframe>
<iframe src="page.html" width="1400" height="900" style="border: 0"></iframe><script>
window.addEventListener("load", () => {
  const pages = [...document.querySelectorAll("iframe")].map((frame) => frame.contentDocument.documentElement);
  const widths = pages.map((page) => page.scrollWidth - page.clientWidth);
  document.body.textContent = JSON.stringify(widths);
});
</script></body>"""


@pytest.fixture
def browser():
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed (make browser)")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return [found, "--headless", *sandbox, "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]


def test_the_page_opens_in_a_browser_and_its_audio_can_be_decoded(folder, report, browser, tmp_path):
    page = (folder / "report/report.html").read_text()
    # The page's policy forbids scripts and external content; the copy may run one script.
    assert page.count("default-src 'none'") == 1
    copy = page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'").replace("</body>", SCRIPT)
    (tmp_path / "copy.html").write_text(copy)
    # A window is at least 500 pixels wide; a frame can be as narrow as a telephone.
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "frame.html").write_text(FRAME)
    command = [*browser, "--force-dark-mode", "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    framed = subprocess.run([*command, f"file://{tmp_path / 'frame.html'}"], capture_output=True, text=True, timeout=120, check=True).stdout
    assert json.loads(html.unescape(re.search(r"<body>(.*)</body>", framed, re.DOTALL)[1])) == [0, 0]
    command.append(f"file://{tmp_path / 'copy.html'}")
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(html.unescape(re.search(r"<body>(.*)</body>", told, re.DOTALL)[1]))
    # One real clip, one of the folder, and one generated and one continued clip of each of two models; a picture for each, and two plots.
    # Rows of the two models and the folder, of four models without training, and of the published results.
    assert (found["audio"], found["seen"], found["rows"]) == (6, 8, 3 + 4 + len(report["published"]))
    drawn, _ = soundfile.read(folder / "report/clips/0_tiny_version_0/generated/clip_0000.wav")
    assert found["length"] == len(drawn) == 320
    assert found["loudest"] == pytest.approx(np.abs(drawn).max(), abs=1e-3)


def test_the_page_holds_all_it_shows(folder):
    page = (folder / "report/report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{1,40})', page)
    assert len(sources) > 10
    assert all(source.startswith(("data:", "https://arxiv.org/abs/")) for source in sources)
    assert "https://arxiv.org" not in "".join(re.findall(r'src="([^"]{1,40})', page))


def test_published_rows_stand_grey_beside_another_protocol(folder, report):
    row = next(row for row in report["published"] if row["model"] == "SaShiMi")
    assert row["values"] == {"NLL": 1.873}
    assert row["reasons"]["NLL"] == ["clip length 16000 there, 320 here"]
    page = (folder / "report/report.html").read_text()
    assert page.count("NLL not comparable: clip length 16000 there, 320 here") == 1
    assert page.count('class="published grey"') == len(report["published"]) == 5


@pytest.fixture
def cut_short(monkeypatch):
    """Interrupts the program when the second batch of clips was drawn but not yet recorded."""
    added, add = [], Generated.add

    def stop(self, clips, sample_rate):
        if len(added) == 1:
            raise KeyboardInterrupt
        added.append(clips)
        add(self, clips, sample_rate)

    monkeypatch.setattr(Generated, "add", stop)


def test_a_call_that_was_cut_short_is_continued(run, folder, request, monkeypatch, capsys):
    command = f"evaluate {FEW} --clips 5 --seed 7"
    with monkeypatch.context() as patch:
        request.getfixturevalue("cut_short")
        with pytest.raises(KeyboardInterrupt):
            run(command)
        patch.undo()
    monkeypatch.undo()
    request.getfixturevalue("no_page")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["train.py"])
    out = folder / "logs/tiny/version_0/evaluation_0"
    clips = out / "clips/0_tiny_version_0/generated"
    kept = {path.name: path.stat().st_mtime_ns for path in clips.glob("clip_000[01].*")}
    assert len(kept) == 4
    assert not (out / "report.json").exists()
    assert run(command) == 0
    assert {path.name: path.stat().st_mtime_ns for path in clips.glob("clip_000[01].*")} == kept
    assert json.loads((clips / "manifest.json").read_text())["complete"]
    # The result is that of an uninterrupted call; the same command again makes another evaluation.
    assert run(command) == 0
    again = folder / "logs/tiny/version_0/evaluation_1/clips/0_tiny_version_0/generated"
    for number in range(5):
        assert np.array_equal(np.load(clips / f"clip_{number:04d}.npy"), np.load(again / f"clip_{number:04d}.npy"))
    first, second = (json.loads((folder / f"logs/tiny/version_0/evaluation_{i}/report.json").read_text()) for i in range(2))
    assert first["subjects"] == second["subjects"]
    expect_error(run, capsys, f"evaluate {FEW} --clips 4 --seed 7 --out {out}", "other settings (drawing)", "--overwrite")
    assert run(f"evaluate {FEW} --clips 4 --seed 7 --out {out} --overwrite") == 0
    assert len(list(clips.glob("*.npy"))) == 4


@pytest.mark.usefixtures("no_page")
def test_folders_against_a_folder(run, folder, tmp_path, capsys, monkeypatch):
    """The folder's name contains rich markup."""
    monkeypatch.setattr("lightning_modules.HarmonicModule.__init__", lambda *_, **__: pytest.fail("a model was built"))
    real, other = (
        make_folder(tmp_path / "real", 4, samples=20_000),
        make_folder(tmp_path / "[red]other", 3, samples=30_000, rate=24_000),
    )
    assert run(f"evaluate {other} {real} --against {real} --seconds 0.5 --out {tmp_path / 'out'} --cache kept --examples 1") == 0
    printed = capsys.readouterr()
    assert "[red]other: 3 of 3 files resampled from 24000 to 16000 Hz" in printed.err
    assert "[red]other" in printed.out
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [s["values"]["FAD logmel"]["value"] for s in report["subjects"]][1] == pytest.approx(0, abs=1e-6)
    assert report["subjects"][0]["fad"]["logmel"]["distance"] > 0.1
    assert [s["clips"] for s in report["subjects"]] == [6, 8]
    assert report["published"] == []
    assert [column["name"] for column in report["measures"]] == ["FAD logmel"]


def test_scores_of_sc09_by_a_classifier_of_digits(run, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cli.evaluate_command.load_digit_classifier", lambda path, device: Loudness())
    command = f"evaluate logs/tiny takes --examples 0 --cache {tmp_path} --out {tmp_path / 'out'} --classifier x.ckpt"
    expect_error(run, capsys, f"{command} --clips 4", "--clips must be at least 8 for the selection by likelihood")
    expect_error(run, capsys, f"{command} --clips 8 --against takes --config folder.yaml", "the training split of SC09")
    assert run(f"{command} --clips 8") == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    names = ["FID", "IS", "IS (tables)", "mIS", "AM"]
    assert [column["name"] for column in report["measures"]] == ["NLL", "FAD logmel", *names]
    # The clips from rank 0.40 to 0.95 by likelihood, of a random half of the eight.
    folder_of_clips = tmp_path / "out/clips/0_tiny_version_0/generated"
    rows = sorted(json.loads((folder_of_clips / "manifest.json").read_text())["clips"], key=lambda row: row["clip"])
    chosen = select_by_likelihood(torch.tensor([-row["bits_per_sample"] for row in rows]), 0).tolist()
    assert len(chosen) == 2
    data = SC09(folder / "data", clip_samples=320, num_workers=0)
    data.setup("fit")
    decode = load(folder / BEST).quantiser.decode_centre
    drawn = [decode(torch.from_numpy(np.load(folder_of_clips / rows[i]["classes"]))) for i in chosen]
    classify = Loudness()
    expected = digit_scores(classify(drawn), digit_reference(classify([data.audio("train", i) for i in range(20)])))
    found = report["subjects"][0]["values"]
    assert [found[name]["value"] for name in names] == pytest.approx(list(expected.values()), rel=1e-5)
    assert [(row["name"], row["clips"]) for row in report["real"]] == [("SC09, train split", 20), ("SC09, test split", 2)]
    row = next(row for row in report["published"] if row["model"] == "test data")
    assert row["values"] == {"FID": 0.02, "IS (tables)": 8.33, "mIS": 257.6, "AM": 0.19}
    assert row["reasons"]["FID"][:2] == ["clip length 16000 there, 320 here", "another classifier"]
    assert any("quantised clips" in note for note in report["notes"])
    assert report["classifier"]["weights"] == Loudness.weights
    assert report["training"] | {"checksum": data.checksum("train"), "protocol": data.protocol} == report["training"]
    # Two clips with four features are too few, twenty are enough.
    assert found["FID"]["mark"].startswith("its clips: 2 embeddings of 4 dimensions")
    assert "reference" not in found["FID"]["mark"]
    assert [row["values"]["FID"]["mark"] != "" for row in report["real"]] == [False, True]
    assert found["IS"]["mark"] == ""
    assert "tiny/version_0, FID: its clips: 2 embeddings" in " ".join(report["notes"])


@pytest.mark.usefixtures("no_page")
def test_the_test_split_has_its_row_and_tells_the_classifiers_accuracy(run, folder, tmp_path, monkeypatch):
    """Holds also if clips are compared with the validation split."""
    monkeypatch.setattr("cli.evaluate_command.load_digit_classifier", lambda path, device: Loudness())
    command = f"evaluate takes --config tiny.yaml --against validation --classifier x.ckpt --examples 0 --cache {tmp_path}"
    assert run(f"{command} --out {tmp_path / 'out'}") == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [row["name"] for row in report["real"]] == ["SC09, train split", "SC09, validation split", "SC09, test split"]
    data = SC09(folder / "data", clip_samples=320, num_workers=0)
    data.setup("test")
    seen = Loudness()(data.audio("test", i) for i in range(data.clip_count("test")))
    assert report["classifier"]["accuracy_here"] == accuracy_of(seen, data.labels("test"))
    assert report["classifier"]["accuracy_as_trained"] == 0.5


@pytest.mark.usefixtures("no_page")
def test_each_part_of_the_work_has_a_bar_that_fills_up(run, tmp_path, monkeypatch):
    filled = []

    class Watched(Progress):
        def remove_task(self, task_id):
            task = self.tasks[self.task_ids.index(task_id)]
            filled.append((task.description, task.completed, task.total))
            super().remove_task(task_id)

    monkeypatch.setattr("cli.progress_bars.Progress", Watched)
    assert run(f"evaluate logs/tiny {FEW} --cache {tmp_path / 'none'} --out {tmp_path / 'out'}") == 0
    titles = [title for title, _, _ in filled]
    parts = ("clips", "continuations", "likelihood", "FAD logmel")
    untrained = [f"Without training: {name}" for name in FILTERS]
    untrained += ["Classes of the training split", f"Without training: {UNIGRAM}"]
    assert titles == ["Reference, logmel", "For scale: FAD logmel", *untrained, *(f"tiny/version_0: {part}" for part in parts)]
    assert all(completed == total > 0 for _, completed, total in filled), filled


@pytest.mark.usefixtures("no_page")
def test_a_model_against_a_folder(run, folder, tmp_path):
    assert run(f"evaluate logs/tiny --against takes --out {tmp_path / 'out'} {FEW}") == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    # Six clips and a remainder from each of the three files.
    assert (report["reference"]["name"], report["reference"]["clips"]) == ("takes", 21)
    assert report["subjects"][0]["nll"]["samples"] == 6000
    assert not (folder / "takes/shards_16000").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("nowhere", ["nowhere: there is no such run, checkpoint or folder"]),
        ("tiny.yaml", ["tiny.yaml: is a file and no checkpoint"]),
        ("empty --config tiny.yaml", ["empty: no audio files"]),
        ("takes takes", ["takes: is named twice"]),
        ("broken.ckpt --config tiny.yaml", ["broken.ckpt: is cut short or damaged"]),
        (BEST.replace("logs/tiny/version_0/checkpoints", "moved"), ["moved/config.yaml", "name a config with --config"]),
        ("takes --against validation", ["--against validation: the data is unknown"]),
        ("takes --against takes", ["name a folder for the report with --out"]),
        ("--against nowhere", ["--against nowhere: is neither validation nor test, nor a folder"]),
        ("--against empty", ["empty: no audio files"]),
        ("takes --against spoilt --out new", ["spoilt/a.wav: cannot be read as audio"]),
        ("--data.root nowhere", ["nowhere: there is no such folder"]),
        ("--data.bits 5", ["best.ckpt: was trained on mu-law 8 bit", "mu-law 5 bit"]),
        ("--clips 0", ["--clips must be at least 1, got 0"]),
        ("--clips 1", ["--clips must be at least 2 for a distance"]),
        ("--batch 0", ["--batch must be at least 1"]),
        ("--examples -1", ["--examples must be 0 or more"]),
        ("--seconds 1", ["--seconds is for folders", "--data.clip_samples"]),
        ("--embeddings wavnet", ["embeddings", "wavnet"]),
        ("--embeddings logmel logmel", ["logmel is named twice"]),
        ("--embeddings pann --weights weights", ["weights/Cnn14_16k_mAP%3D0.438.pth: is missing", "--weights"]),
        ("--out takes", ["--out takes: holds files but no settings.json", "nothing in it is overwritten"]),
        ("--out takes --overwrite", ["--out takes: holds files but no settings.json"]),
        ("--out tiny.yaml", ["--out tiny.yaml: is a file"]),
        ("--out tiny.yaml/deeper", ["tiny.yaml/deeper", "cannot be written"]),
        ("--clipz 3", ["clipz"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_named_before_any_work(run, folder, capsys, monkeypatch, arguments, parts):
    monkeypatch.setattr("cli.evaluate_command.Evaluator", lambda *_: pytest.fail("work has begun"))
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "moved").mkdir(exist_ok=True)
    shutil.copy(folder / BEST, folder / "moved")
    (folder / "spoilt").mkdir(exist_ok=True)
    (folder / "spoilt/a.wav").write_text("not audio")
    (folder / "broken.ckpt").write_bytes(b"broken")
    before = {path for path in folder.rglob("*") if path.name != "shards_16000"}
    expect_error(run, capsys, f"evaluate {arguments}", *parts)
    assert {path for path in folder.rglob("*") if path.name != "shards_16000"} == before


def test_a_folder_with_too_little_audio_fails_with_its_name(run, folder, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", tone(300, 0), 16_000)
    expect_error(run, capsys, f"evaluate {tmp_path} --config tiny.yaml --out {tmp_path / 'out'}", str(tmp_path), "at least two embeddings")
    assert not (tmp_path / "out/report.html").exists()
