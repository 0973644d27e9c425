"""Tests of `train.py export`, on the run of a tiny training."""

import pytest
import torch

from harmonicrnn import load
from harmonicrnn.errors import UserError
from lightning_modules import WaveNetModule
from tests.audio_files import tone
from tests.cli.test_bad_input import expect_error
from tests.harmonicrnn.test_checkpoints import save


def test_the_newest_run_becomes_a_voice(run, folder, ready, capsys):
    assert run("test") == 0
    assert run("export --out tiny --license cc0-1.0 --seconds 0.01") == 0
    assert capsys.readouterr().out.endswith("Written to tiny\n")
    voice = load("tiny")
    assert voice.scaling == "clip"
    assert voice.nll(tone(400, 1)) == load(ready).nll(tone(400, 1))
    text = (folder / "tiny/README.md").read_text()
    for part in (
        "license: cc0-1.0",
        "```bash\npython train.py fit --config tiny.yaml\n```",
        "| without training: linear predictors |",
        "| without training: unigram of the training split |",
        "Data settings: class SC09, folder data, law mu-law, bits 8, scaling clip",
        "4 steps.",
        "| test split, ",
        "- [clip_4.wav](clip_4.wav)",
    ):
        assert part in text, text
    assert str(folder) not in text + (folder / "tiny/config.json").read_text()
    expect_error(run, capsys, "export --out tiny", "tiny: exists and is not an empty folder")
    expect_error(run, capsys, "export", "--out is missing")
    expect_error(run, capsys, "export --out other --ckpt_path gone.ckpt", "gone.ckpt: there is no such file")


def test_a_checkpoint_that_lies_alone_is_told_its_scaling(run, folder, ready, capsys):
    (ready / "checkpoints/best.ckpt").rename(folder / "alone.ckpt")
    expect_error(run, capsys, "export --out tiny --ckpt_path alone.ckpt", "alone.ckpt: the scaling of its audio is unknown", "--scaling")
    assert run("export --out tiny --ckpt_path alone.ckpt --scaling peak --seconds 0") == 0
    assert load("tiny").scaling == "peak"
    expect_error(run, capsys, "export --out other --ckpt_path alone.ckpt --scaling loud", '"scaling"', "loud")


def test_models_of_other_modules(run, folder, capsys):
    """Such voices, like their checkpoints, need the model to be passed in."""
    (folder / "logs/net/checkpoints").mkdir(parents=True)
    module = WaveNetModule(width=8, skip=8, cycle=3, bits=5, sample_rate=8000)
    made_by = {
        "optimizer": {},
        "_class_path": "lightning_modules.WaveNetModule",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    save(folder / "logs/net/checkpoints/best.ckpt", module, **made_by)
    (folder / "logs/net/config.yaml").write_text("data: {init_args: {scaling: none}}")
    assert run("export --out net") == 0
    told = capsys.readouterr().err
    assert "No clips are drawn (--clips takes some): " in told
    assert "many times slower" in told
    assert not list((folder / "net").glob("clip_*"))
    with pytest.raises(UserError, match="is of WaveNet, which is not known here"):
        load("net")
    weights = load("net", net=WaveNetModule(width=8, skip=8, cycle=3, bits=5).net).net.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in module.net.state_dict().items())
