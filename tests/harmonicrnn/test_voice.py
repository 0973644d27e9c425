"""Tests of a trained model in scripts: from a tiny training, from a run made before version 0.2, and from other modules."""

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cli import main
from harmonicrnn import Voice, load
from harmonicrnn.audio import Quantiser, extremes, scale
from harmonicrnn.errors import UserError
from harmonicrnn.generation import generate
from harmonicrnn.models import HarmonicRNN, LevelSpec, Prediction, WaveNet, sample_nats
from harmonicrnn.ops.prediction import Predictor
from lightning_modules import AutoregressiveModule, HarmonicModule, OptimizerConfig, WaveNetModule, load_module
from tests.audio_files import make_sc09, tone
from tests.cli.conftest import CONFIG, without_pictures
from tests.harmonicrnn.test_checkpoints import RUN, save

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """Returns the folder of a finished run with averaged weights."""
    folder = tmp_path_factory.mktemp("voice")
    make_sc09(folder / "data", samples=8000)
    (folder / "tiny.yaml").write_text(CONFIG.format(root=folder / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["train.py"])
        without_pictures(patch)
        assert main(["fit", "--config", "tiny.yaml", "--ema.decay", "0.5", "--trainer.logger.init_args.name", "demo"]) == 0
    return folder / "logs/demo/version_0"


def test_a_voice_has_the_averaged_weights_and_the_settings_of_its_data(version):
    voice = load(version)
    assert voice.checkpoint == version / "checkpoints/best.ckpt"
    assert (voice.scaling, voice.sample_rate, voice.quantiser.bits) == ("clip", 16_000, 8)
    saved = torch.load(voice.checkpoint, weights_only=True)
    for name, value in voice.net.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"net.{name}"])
    assert any(not torch.equal(value, saved["current_model_state"][name]) for name, value in saved["state_dict"].items())


def test_likelihood_of_audio_is_one_mean_over_all_samples(version, monkeypatch):
    voice = load(version)
    samples = tone(500, 3).astype(np.float32)
    classes = voice.quantiser.encode(scale(torch.from_numpy(samples), extremes(torch.from_numpy(samples))))
    module = HarmonicModule.load_from_checkpoint(voice.checkpoint)
    with torch.no_grad():
        expected = sample_nats(module.net(classes[None])[0], classes[None]).double().mean().item() / math.log(2)
    assert voice.nll(samples) == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr("harmonicrnn.voice.CHUNK", 37)
    assert voice.nll(samples) == pytest.approx(expected, abs=1e-5)


def test_new_audio_continues_what_was_heard(version):
    voice = load(version)
    prompt = tone(300, 3).astype(np.float32)
    made = voice.generate(0.002, prompt, clips=2, seed=5, temperature=0.8, top_p=0.9)
    assert made.shape == (2, 32)
    expected = generate(voice.net, 32, 2, prompt=voice.classes(prompt), seed=5, temperature=0.8, top_p=0.9)
    assert torch.equal(made, voice.quantiser.decode_centre(expected))
    assert not torch.equal(made, voice.generate(0.002, clips=2, seed=5, temperature=0.8, top_p=0.9))


def test_numbers_out_of_range_are_errors(version):
    voice = load(version)
    for changes, message in (
        ({"seconds": -1}, "^seconds must be above 0, got -1"),
        ({"seconds": 1e-5}, "less than one sample at 16000 Hz"),
        ({"top_p": 0}, "^top_p must be above 0"),
        ({"temperature": float("nan")}, "^temperature must be 0 or more, got nan"),
        ({"clips": 1.5}, "^clips must be a whole number, got 1.5"),
        ({"seed": float("nan")}, "^seed must be a whole number, got nan"),
        ({"clips": 4, "prompt": np.zeros((4, 300), np.float32)}, r"the shape \(4, 300\), which may be channels or prompts"),
        ({"prompt": np.zeros(300, np.int16)}, "holds int16 numbers"),
    ):
        with pytest.raises(UserError, match=message):
            voice.generate(**({"seconds": 0.001} | changes))


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0, -16_000])
def test_rates_that_are_none(version, rate):
    with pytest.raises(UserError, match="the sample rate must be at least 1 Hz and finite"):
        load(version).nll(tone(100, 0), rate)


def test_samples_that_are_no_floating_point_numbers(version):
    voice = load(version)
    for samples in (np.ones(100, np.int16), torch.ones(100, dtype=torch.int32), np.ones(100, bool), np.ones(100, complex)):
        with pytest.raises(UserError, match=r"give floating-point samples in \[-1, 1\]"):
            voice.nll(samples)
    samples = torch.from_numpy(tone(100, 0)).float().requires_grad_()
    assert voice.nll(samples) == voice.nll(samples.detach().numpy())
    with pytest.raises(UserError, match=r"is for samples: a\.wav is a file"):
        voice.nll("a.wav", 8000)
    with pytest.raises(UserError, match="seconds must be above 0"):
        voice.classes(samples, seconds=float("nan"))


def test_words_that_are_no_choice(version):
    with pytest.raises(UserError, match="scaling must be one of clip, file, peak, none, got 'flie'"):
        load(version, scaling="flie")
    with pytest.raises(UserError, match="weights must be one of full, bfloat16, int8, got 'int4'"):
        load(version).engine("int4")
    with pytest.raises(UserError, match="device cuda:99: cannot be used"):
        load(version, device="cuda:99")
    with pytest.raises(UserError, match="device mps: has no float64"):
        load(version, device="mps")


def test_a_likelihood_that_is_not_finite(version):
    voice = load(version)
    next(voice.net.parameters()).data.fill_(torch.nan)
    with pytest.raises(UserError, match=r"best\.ckpt: its likelihood is not finite"):
        voice.nll(tone(100, 0))


def test_what_lies_alone_does_not_know_its_scaling(version, tmp_path):
    alone = tmp_path / "model.ckpt"
    alone.write_bytes((version / "checkpoints/best.ckpt").read_bytes())
    with pytest.raises(UserError, match=r"model\.ckpt: the scaling of its audio is unknown"):
        load(alone).nll(tone(100, 0))
    assert load(alone, scaling="clip").nll(tone(100, 0)) == load(version).nll(tone(100, 0))
    assert load(alone).generate(0.001).shape == (1, 16)
    with pytest.raises(UserError, match=r"has no checkpoints/best or last\.ckpt"):
        load(tmp_path)
    with pytest.raises(UserError, match="nowhere: there is no such checkpoint, run or voice"):
        load(tmp_path / "nowhere")


def test_a_run_made_before_version_0_2():
    """Its likelihood and samples equal those of the code that made it."""
    voice, t = load(RUN), np.arange(4000) / 8000
    assert (voice.scaling, voice.sample_rate, voice.quantiser) == ("clip", 8000, Quantiser(8, "mu-law"))
    audio = 0.5 * np.sin(2 * np.pi * 220 * t) + 0.3 * np.sin(2 * np.pi * 331 * t)
    assert voice.nll(audio.astype(np.float32)) == pytest.approx(8.160971672976899, abs=1e-5)
    drawn = [85, 32, 24, 43, 62, 22, 30, 23, 113, 180, 243, 13, 149, 231, 107, 48, 22, 147, 38, 204, 233, 218, 16, 130]
    assert generate(voice.net, 24, seed=3).tolist() == [drawn]


PREDICTION = Prediction((Predictor(5, 0.9, 4), Predictor(9, 0.95, 8, white=1e-3)), widths=(0.5, 2.0), share=0.01)


@pytest.mark.parametrize("form", ["records", "dicts"])
def test_prediction_is_built_again(form, tmp_path):
    """Reads prediction settings in the form of modules built by hand, and in that of the command line."""
    module = HarmonicModule(levels=[LevelSpec(8, 1)], preset="griffin", heads=2, bits=5, prediction=PREDICTION, sample_rate=8000)
    torch.nn.init.normal_(module.net.head.weight)
    path = save(tmp_path / "a.ckpt", module, **({} if form == "records" else {"prediction": asdict(PREDICTION)}))
    voice = load(path, "none")
    assert voice.net.prediction.settings == PREDICTION
    assert torch.equal(voice.net.prediction.limits, module.net.prediction.limits)
    audio = tone(300, 1, 8000)
    assert voice.nll(audio) == Voice(module.net.eval(), module.quantiser, 8000, "none", path).nll(audio)
    if form == "records":
        assert torch.equal(load_module(path).net.prediction.centres, module.net.prediction.centres)


def test_prediction_that_is_damaged(tmp_path):
    module = HarmonicModule(levels=[LevelSpec(8, 1)], preset="griffin", heads=2, bits=5, prediction=PREDICTION)
    for changes, message in (
        ({"share": 2}, "prediction needs a share above 0"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
        ({"predictors": [{"order": 0, "decay": 0.9, "every": 4}]}, "order of a predictor must be at least 1"),
    ):
        path = save(tmp_path / "a.ckpt", module, prediction=asdict(PREDICTION) | changes)
        with pytest.raises(UserError, match=f"its hyperparameters describe no HarmonicRNN: .*{message}"):
            load(path)
    path = save(tmp_path / "a.ckpt", module, prediction=asdict(replace(PREDICTION, weight_decay=0.5)))
    with pytest.raises(UserError, match=r"was trained with prediction .*weight_decay 0\.98.* configured is .*weight_decay 0\.5"):
        load(path)


def test_prediction_of_a_run_of_the_command_line(version):
    """Checks the settings and the likelihoods, from yaml to the checkpoint and back."""
    predictors = "[{order: 5, decay: 0.9, every: 4}, {order: 9, decay: 0.95, every: 8}]"
    command = "fit --config tiny.yaml --samples.sample_seconds 0 --trainer.max_steps 2 --trainer.logger.init_args.name predicted"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(version.parents[2])
        patch.setattr("sys.argv", ["train.py"])
        assert main([*command.split(), "--model.prediction.share", "0.01", "--model.prediction.predictors", predictors]) == 0
    run = version.parents[1] / "predicted/version_0"
    voice, module = load(run), load_module(run / "checkpoints/best.ckpt")
    for prediction in (voice.net.prediction, module.net.prediction):
        assert prediction.predictors == (Predictor(5, 0.9, 4), Predictor(9, 0.95, 8))
        assert prediction.settings.share == 0.01
        centres, limits = Quantiser().cells()
        assert torch.equal(prediction.limits[1:-1], limits - centres[128])
    samples = tone(300, 2)
    alone = Voice(module.net.eval(), module.quantiser, 16_000, voice.scaling, voice.checkpoint)
    assert voice.nll(samples) == alone.nll(samples)


class OwnModule(AutoregressiveModule):
    def __init__(self, width: int = 8) -> None:
        super().__init__(small_model(width), OptimizerConfig(), None, 8000, "linear")


def small_model(width: int = 8) -> HarmonicRNN:
    return HarmonicRNN([LevelSpec(width, 1)], preset="griffin", heads=2, bits=5)


def small_wavenet() -> WaveNet:
    return WaveNet(width=8, skip=8, cycle=3, bits=5)


WAVENET = {"width": 8, "skip": 8, "cycle": 3, "bits": 5, "sample_rate": 8000}
OTHERS = {
    "lightning_modules.WaveNetModule": (WaveNetModule, WAVENET, "lightning_modules.baselines.WaveNetModule", small_wavenet),
    "a model with width, skip, cycle": (WaveNetModule, WAVENET, None, small_wavenet),
    "my_package.OwnModule": (OwnModule, {}, "my_package.OwnModule", small_model),
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_other_modules_are_handed_over(name, tmp_path):
    kind, settings, class_path, build = OTHERS[name]
    module = kind(**settings)
    path = save(tmp_path / "a.ckpt", module, **({} if class_path is None else {"_class_path": class_path}))
    with pytest.raises(UserError, match=rf"a\.ckpt: is of {name}, which is not known here: .* load\(path, net=\.\.\.\)"):
        load(path)
    audio = tone(300, 1, 8000)
    voice = load(path, "none", net=build())
    assert voice.sample_rate == 8000
    assert voice.nll(audio) == Voice(module.net.eval(), module.quantiser, 8000, "none", path).nll(audio)
    with pytest.raises(UserError, match=r"a\.ckpt: .* its architecture differs"):
        load(path, net=small_model(16))


def test_the_example_of_the_readme_runs(capsys):
    """Runs it verbatim, but shorter."""
    example = next(block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "import load" in block)
    assert len(example.strip().splitlines()) <= 5
    names: dict[str, object] = {}
    exec(example.replace("2.0", "0.002"), names)
    assert 0 < float(capsys.readouterr().out) < 20
    assert names["audio"].shape == (1, 16)


def test_the_tour_runs():
    """Runs all cells of docs/tour.ipynb verbatim, but shorter."""
    cells = json.loads((README.parent / "docs/tour.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        exec(source.replace("seconds = 5.0", "seconds = 0.05"), names)
    assert names["audio"].shape == (1, 400)
    assert (names["folder"] / "model.safetensors").is_file()
