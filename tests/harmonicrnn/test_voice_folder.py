"""Tests of voices as folders: they load as saved, mismatches are named, and nothing in them is executed."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from harmonicrnn import Voice, load, voice_folder
from harmonicrnn.audio import Quantiser
from harmonicrnn.cli import main
from harmonicrnn.errors import UserError
from harmonicrnn.models import HarmonicRNN, LevelSpec, Prediction, WaveNet
from harmonicrnn.ops.prediction import Predictor
from tests.audio_files import tone
from tests.harmonicrnn.test_checkpoints import RUN

MODELS = {
    "paper": {"levels": [LevelSpec(8, 1, 2), LevelSpec(16, 1)], "heads": 2, "shift": "frame", "phase": (0.1, 0.3)},
    "griffin": {"levels": [LevelSpec(8, 1, recompute=True)], "preset": "griffin", "heads": 2, "unit_first_step": False},
    "predicted": {
        "levels": [LevelSpec(8, 1)],
        "heads": 2,
        "prediction": Prediction((Predictor(5, 0.9, 4), Predictor(9, 0.95, 8, white=1e-3)), widths=(0.5, 2.0), share=0.01),
    },
    "multiplied": {"levels": [LevelSpec(8, 1)], "heads": 2, "prediction": Prediction((Predictor(5, 0.9, 4),), input=False, floor=0.1)},
}


def make_voice(kind="griffin", **changes):
    """Returns a voice with random weights that does not come from a file."""
    torch.manual_seed(3)
    net, quantiser = HarmonicRNN(**MODELS[kind], bits=5).eval(), Quantiser(5, "linear")
    net.set_cells(*quantiser.cells())
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter.data, std=0.1)
    return replace(Voice(net, quantiser, 8000, "peak", Path("none.ckpt")), **changes)


@pytest.fixture
def folder(tmp_path):
    make_voice().save(tmp_path / "tiny", license="cc0-1.0")
    return tmp_path / "tiny"


@pytest.mark.parametrize("kind", MODELS)
def test_what_was_saved_is_what_is_loaded(kind, tmp_path):
    voice = make_voice(kind)
    drawn = torch.random.get_rng_state()
    voice.save(tmp_path / "tiny")
    assert torch.equal(torch.random.get_rng_state(), drawn)
    again = load(tmp_path / "tiny")
    assert (again.quantiser, again.sample_rate, again.scaling) == (Quantiser(5, "linear"), 8000, "peak")
    assert again.net.arguments == voice.net.arguments
    assert again.net.parts == voice.net.parts
    assert again.net.prediction is None or again.net.prediction.settings == voice.net.prediction.settings
    weights = again.net.state_dict()
    assert all(torch.equal(weights[name], value) and weights[name].dtype == value.dtype for name, value in voice.net.state_dict().items())
    audio = tone(300, 1, 8000)
    assert again.nll(audio) == voice.nll(audio)
    again.save(tmp_path / "twice")
    assert load_file(tmp_path / "twice/model.safetensors").keys() == weights.keys()


def test_a_voice_is_plain_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["parameters"] == sum(parameter.numel() for parameter in make_voice().net.parameters())
    assert config["saved_with"]["libraries"]["torch"] == torch.__version__.split("+")[0]


def test_a_voice_is_drawn_from_at_its_own_temperature(tmp_path):
    make_voice().save(tmp_path / "cool", temperature=0.5)
    voice = load(tmp_path / "cool")
    assert (make_voice().temperature, voice.temperature) == (1.0, 0.5)
    assert "at temperature 0.5." in (tmp_path / "cool/README.md").read_text()
    drawn = voice.generate(0.05)
    assert torch.equal(drawn, voice.generate(0.05, temperature=0.5))
    assert not torch.equal(drawn, voice.generate(0.05, temperature=1.0))
    with voice.stream(seconds=0.05) as blocks:
        assert np.array_equal(np.concatenate(list(blocks)), drawn[0].numpy())
    command = ["generate", "--voice", str(tmp_path / "cool"), "--seconds", "0.05", "--out", str(tmp_path / "clips")]
    assert main(command) == 0
    assert json.loads((tmp_path / "clips/manifest.json").read_text())["settings"]["temperature"] == 0.5
    with pytest.raises(UserError, match="temperature"):
        make_voice().save(tmp_path / "none", temperature=-1.0)
    with_config(tmp_path / "cool", about={"temperature": "low"})
    with pytest.raises(UserError, match=r"about\.temperature: wanted a number of 0 or more, found 'low'"):
        load(tmp_path / "cool")


def test_the_voice_in_the_box(tmp_path):
    """It needs no network and no run, and its card describes it."""
    voice = load("bach")
    folder = voice.checkpoint.parent
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6e6
    assert len([path for path in folder.iterdir() if path.name.startswith("clip_")]) == 4
    assert (voice.sample_rate, voice.quantiser.bits, voice.scaling) == (8000, 8, "peak")
    (test,) = (each for each in voice.about["likelihood"] if each["split"] == "test")
    card = (folder / "README.md").read_text()
    for part in (f"{test['bits_per_sample']:.4f}", "linear predictors", "music21", "Fluid R3", "train.py fit", "Intended use"):
        assert part in card
    clip, rate = soundfile.read(folder / "clip_1.wav")
    assert rate == 8000
    assert abs(voice.nll(clip[:32000].astype(np.float32), 8000) - test["bits_per_sample"]) < 1
    assert main(["generate", "--voice", "bach", "--seconds", "0.01", "--out", str(tmp_path / "clips")]) == 0


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def with_config(folder, **changes):
    write(folder / "config.json", json.loads((folder / "config.json").read_text()) | changes)


def with_arguments(folder, **changes):
    model = json.loads((folder / "config.json").read_text())["model"]
    with_config(folder, model=model | {"arguments": model["arguments"] | changes})


def with_tensors(folder, **changes):
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")


DAMAGES = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config\.json: there is no such file"),
    "no JSON": (lambda folder: write(folder / "config.json", "{"), r"config\.json: is damaged or no JSON .* download or save"),
    "deep JSON": (lambda folder: write(folder / "config.json", "[" * 100_000), r"config\.json: is damaged or no JSON"),
    "a list": (lambda folder: write(folder / "config.json", []), r"config\.json: format: wanted a whole number, found null"),
    "later": (lambda folder: with_config(folder, format=2), "format is 2, this version reads up to 1: install a later harmonicrnn"),
    "no class": (lambda folder: with_config(folder, model={}), r"model: wanted class and arguments, found \{\}"),
    "arguments": (
        lambda folder: with_config(folder, model={"class": "HarmonicRNN", "arguments": 3}),
        "model: wanted arguments by their names",
    ),
    "law": (lambda folder: with_config(folder, quantiser={"bits": 5, "law": "alaw"}), "quantiser: wanted bits and a law of mu-law, linear"),
    "other law": (lambda folder: with_config(folder, quantiser={"bits": 5, "law": []}), "quantiser: wanted"),
    "rate": (lambda folder: with_config(folder, sample_rate=0), "sample_rate: wanted a whole number of Hz, at least 1, found 0"),
    "rate of a flag": (lambda folder: with_config(folder, sample_rate=True), "sample_rate: wanted a whole number of Hz"),
    "other bits": (
        lambda folder: with_config(folder, quantiser={"bits": 12, "law": "linear"}),
        r"config\.json: quantiser: bits: wanted 5, as its model has, found 12",
    ),
    "no bits": (lambda folder: with_config(folder, quantiser={"law": "linear"}), "quantiser: bits: wanted 5, as its model has, found null"),
    "parameters": (lambda folder: with_config(folder, parameters=5), r"config\.json: parameters: wanted [\d,]+, as its model has, found 5"),
    "scaling": (lambda folder: with_config(folder, scaling=None), "scaling: wanted one of clip, file, peak, none, found null"),
    "about": (lambda folder: with_config(folder, about="x"), 'about: wanted facts by their names, found "x"'),
    "unseen": (lambda folder: with_config(folder, unseen_in_weights={}), "was trained with shift None, configured is tight"),
    "setting": (lambda folder: with_arguments(folder, hedas=2), "is of a model with hedas, which is not known here"),
    "value": (lambda folder: with_arguments(folder, norm="batch"), "its hyperparameters describe no HarmonicRNN: norm must be one of"),
    "room": (lambda folder: with_arguments(folder, levels=[{"width": 10**6, "depth": 1}]), "many more weights than there are"),
    "weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x02}q\x00."),
        r"model\.safetensors: is cut short, damaged",
    ),
    "cut": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1]),
        r"model\.safetensors: is cut short, damaged .* download or save",
    ),
    "shape": (
        lambda folder: with_tensors(folder, **{"head.bias": torch.zeros(31)}),
        r"model\.safetensors: head\.bias: wanted float32 \(32,\) by its config\.json, found float32 \(31,\): .* download or save",
    ),
    "dtype": (lambda folder: with_tensors(folder, **{"head.bias": torch.zeros(32).half()}), r"wanted float32 \(32,\) .* found float16"),
    "missing": (lambda folder: with_tensors(folder, **{"head.bias": None}), r"head\.bias: wanted float32 \(32,\) .* found nothing"),
    "extra": (lambda folder: with_tensors(folder, extra=torch.zeros(2)), r"extra: wanted nothing by .* found float32 \(2,\)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_fit_is_named(damage, folder):
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(UserError, match=message):
        load(folder)


MEASURED = {
    "split": "test", "bits_per_sample": 2.5, "samples": 8000, "clips": 2, "by_position": [], "protocol": "Synthetic: whole files",
    "batches": "all", "untrained": [{"name": "linear predictors", "bits_per_sample": 3.25, "samples": 8000}],
}  # fmt: skip

MALFORMED = [
    ("license", "mit\ntags: []"),
    ("license", None),
    ("sources", ["bells"]),
    ("data", [1]),
    ("init_from", 3),
    ("steps", "many"),
    ("steps", -1),
    ("temperature", 10**400),
    ("trained_with", "bells"),
    ("trained_with", {"command": 3}),
    ("trained_with", {"libraries": ["torch"]}),
    ("trained_with", {"libraries": {"torch": "2"}, "python": "3"}),
    ("likelihood", MEASURED),
    ("likelihood", ["low"]),
    *(("likelihood", [MEASURED | {key: None}]) for key in ("split", "bits_per_sample", "samples", "protocol", "untrained")),
    ("likelihood", [{key: value for key, value in MEASURED.items() if key != "untrained"}]),
    ("likelihood", [MEASURED | {"untrained": [{"name": "silence"}]}]),
]


@pytest.mark.parametrize(("key", "value"), MALFORMED)
def test_facts_of_the_wrong_form_are_named(key, value, folder, tmp_path):
    """The card is made from them."""
    with_config(folder, about={key: value})
    with pytest.raises(UserError, match=rf"config\.json: about\.{key}: wanted .*, found .*: download or save"):
        load(folder)
    with pytest.raises(UserError, match=rf"none\.ckpt: about\.{key}: wanted .*, found "):
        make_voice(about={key: value}).save(tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_facts_that_cannot_be_written_are_named(value, folder):
    with_config(folder, about={"data": {"bits": value}})
    with pytest.raises(UserError, match=r"config\.json: about: wanted Unicode text and finite numbers"):
        load(folder)


def test_nothing_is_imported_because_a_folder_says_so(folder, tmp_path, monkeypatch):
    (tmp_path / "poison.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with_config(folder, model={"class": "poison.Net"})
    with pytest.raises(UserError, match=r"is of poison\.Net, which is not known here: .* load\(path, net=\.\.\.\)"):
        load(folder)
    assert not (tmp_path / "imported").exists()


def test_models_of_other_kinds_are_handed_over(tmp_path):
    net = WaveNet(width=8, skip=8, cycle=3, bits=5).eval()
    voice = Voice(net, Quantiser(5), 8000, "none", Path("none.ckpt"))
    voice.save(tmp_path / "tiny")
    with pytest.raises(UserError, match="is of WaveNet, which is not known here"):
        load(tmp_path / "tiny")
    assert load(tmp_path / "tiny", net=WaveNet(width=8, skip=8, cycle=3, bits=5)).nll(tone(99, 1)) == voice.nll(tone(99, 1))


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    voice = make_voice()
    with pytest.raises(UserError, match=r"none\.ckpt: the scaling of its audio is unknown"):
        replace(voice, scaling=None).save(tmp_path / "tiny")
    with pytest.raises(UserError, match="license 'My own': give the Hub's identifier"):
        voice.save(tmp_path / "tiny", license="My own")
    voice.net.double()
    with pytest.raises(UserError, match=r"wanted float32 .* found float64"):
        voice.save(tmp_path / "tiny")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_voice_is_whole_or_not_there(error, tmp_path, monkeypatch):
    def fail(*args):
        assert any(path.name == "model.safetensors" for path in tmp_path.rglob("*"))
        raise error

    monkeypatch.setattr(voice_folder, "card", fail)
    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        make_voice().save(tmp_path / "tiny")
    assert "tiny: cannot be written: No space left" in str(raised.value) or isinstance(error, KeyboardInterrupt)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(folder, tmp_path):
    before = (folder / "config.json").read_bytes()
    with pytest.raises(UserError, match="tiny: exists and is not an empty folder"):
        make_voice().save(folder)
    assert (folder / "config.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    make_voice().save(tmp_path / "empty")
    assert load(tmp_path / "empty").sample_rate == 8000
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        make_voice().save(tmp_path / "file/tiny")


def test_clips_and_a_card_of_ones_own_go_along(folder, tmp_path):
    for name in ("a.wav", "b.FLAC"):
        soundfile.write(tmp_path / name, np.zeros(80, np.float32), 8000)
    make_voice().save(tmp_path / "heard", clips=[tmp_path / "a.wav", str(tmp_path / "b.FLAC")])
    assert {path.name for path in (tmp_path / "heard").glob("clip_*")} == {"clip_1.wav", "clip_2.flac"}
    card = tmp_path / "heard/README.md"
    assert "- [clip_2.flac](clip_2.flac)" in card.read_text()
    write(card, "my words")
    load(tmp_path / "heard").save(tmp_path / "again")
    assert (tmp_path / "again/README.md").read_text() == "my words"
    assert (tmp_path / "again/clip_2.flac").read_bytes() == (tmp_path / "b.FLAC").read_bytes()
    load(tmp_path / "heard").save(tmp_path / "licensed", license="mit")
    assert "license: mit" in (tmp_path / "licensed/README.md").read_text()
    assert (tmp_path / "licensed/clip_1.wav").is_file()
    write(tmp_path / "no.wav", "no audio")
    for clips, message in (
        ([tmp_path / "a.wav"] * 5, "a voice has at most 4, got 5"),
        ([tmp_path / "a.mp3"], r"a\.mp3: a voice's clips are \.wav or \.flac files"),
        ([tmp_path / "no.wav"], r"no\.wav: cannot be read as audio"),
        ([tmp_path / "gone.wav"], r"gone\.wav: cannot be read as audio"),
    ):
        with pytest.raises(UserError, match=message):
            make_voice().save(tmp_path / "never", clips=clips)
    assert not (tmp_path / "never").exists()


def test_voices_that_come_with_the_library(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="tiny: there is no such checkpoint, run or voice; voices that come with the library: "):
        load("tiny")
    monkeypatch.setattr("harmonicrnn.runs.VOICES", tmp_path)
    voice = load("tiny")
    assert voice.checkpoint == folder / "model.safetensors"
    assert load(voice.checkpoint).sample_rate == 8000
    with pytest.raises(UserError, match=r"library: tiny$"):
        load("bach")
    with pytest.raises(UserError, match="there is no such"):
        load("../tiny/../tiny")
    monkeypatch.chdir(tmp_path.parent)
    Path("tiny").mkdir(exist_ok=True)  # local files have priority
    with pytest.raises(UserError, match=r"tiny: has no checkpoints/best or last\.ckpt"):
        load("tiny")


def test_the_card_tells_what_the_run_knows(tmp_path):
    run = Path(shutil.copytree(RUN, tmp_path / "run"))
    digest = sha256((run / "checkpoints/best.ckpt").read_bytes()).hexdigest()
    write(run / "nll_test.json", MEASURED | {"sha256": digest})
    write(run / "nll_validation.json", MEASURED | {"sha256": "another", "split": "validation"})
    write(run / "nll_test_partial.json", MEASURED | {"sha256": digest, "batches": "limited", "bits_per_sample": 1.0})
    write(run / "nll_test_best_3.json", "{")
    write(run / "nll_validation_best_3.json", MEASURED | {"sha256": digest, "split": "validation", "samples": "all"})
    config = (run / "config.yaml").read_text()
    write(run / "config.yaml", config.replace("init_from: null", "init_from: /home/me/voices/old"))
    voice = load(run)
    voice.save(tmp_path / "tiny", sources="Bells, recorded by me.\nPublic domain.")
    text = (tmp_path / "tiny/README.md").read_text()
    for part in (
        "| test split, 8,000 samples | bits/sample |\n|---|---|\n| this voice | 2.5000 |\n| without training: linear predictors | 3.2500 |",
        "Synthetic: whole files.",
        "class Synthetic, law mu-law, bits 8, scaling clip, sample_rate 8000",
        "Bells, recorded by me.\nPublic domain.",
        "Its training began with the weights of old.",
        "20 steps.",
        "Trained with harmonicrnn dc20f657c07e, Python 3.11.7, torch 2.11.0",
    ):
        assert part in text
    assert "1.0000" not in text
    assert "/home/me" not in text + (tmp_path / "tiny/config.json").read_text()
    again = load(tmp_path / "tiny")
    assert again.about["trained_with"] == voice.about["trained_with"]
    assert again.nll(tone(300, 1, 8000)) == voice.nll(tone(300, 1, 8000))


def test_the_card_has_the_last_measurement_of_a_split(tmp_path):
    """A checkpoint's measurements by other protocols are kept beside the last one, see `callbacks.nll_report.keep_apart`."""
    run = Path(shutil.copytree(RUN, tmp_path / "run"))
    measured = MEASURED | {"sha256": sha256((run / "checkpoints/best.ckpt").read_bytes()).hexdigest()}
    for name, bits in (("best_20", 2.1), ("best_20_2", 2.2), ("best_20_10", 2.3)):
        write(run / f"nll_test_{name}.json", measured | {"bits_per_sample": bits, "protocol": f"at {bits}"})
    load(run).save(tmp_path / "kept")
    write(run / "nll_test.json", measured)
    load(run).save(tmp_path / "last")
    for name, bits in (("kept", "2.3000"), ("last", "2.5000")):
        text = (tmp_path / name / "README.md").read_text()
        assert text.count("| test split") == 1
        assert f"| this voice | {bits} |" in text


def test_links_to_the_files_of_others_are_not_saved(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("of whoever saves it again")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret.txt")
    soundfile.write(tmp_path / "mine.wav", np.zeros(10), 8000)
    (folder / "clip_1.wav").symlink_to(tmp_path / "mine.wav")
    load(folder).save(tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert "of whoever" not in (tmp_path / "again/README.md").read_text()


def test_engines_of_one_voice_are_made_by_one_thread_at_a_time():
    voice = make_voice()
    before = {name: value.clone() for name, value in voice.net.state_dict().items()}
    threads = [Thread(target=lambda: [voice.engine() for _ in range(8)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(value, before[name]) for name, value in voice.net.state_dict().items())
    assert all(parameter.requires_grad for parameter in voice.net.parameters())
