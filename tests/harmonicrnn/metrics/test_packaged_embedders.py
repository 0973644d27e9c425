"""Tests of the use of frechet-audio-distance, with random weights of the real architectures and without a network."""

import hashlib
import socket
import sys
import textwrap
from types import ModuleType

import pytest
import torch

from harmonicrnn.errors import UserError
from harmonicrnn.metrics import make_embedder, packaged_embedders
from tests.helpers import F32, relative_error


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("the network was touched")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    # torch.hub would ask whether a repository is trusted, and wait for an answer.
    monkeypatch.setattr("builtins.input", refuse)


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def save(weights, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_encodec(folder):
    """Makes a 24 kHz model with random weights in the folder."""
    from encodec import EncodecModel

    torch.manual_seed(0)
    model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    return model, save(model.state_dict(), folder / "checkpoints/encodec_24khz-d7cc33bc.th")


MISSING = [
    ("vggish", "harritaylor_torchvggish_master/hubconf.py", "https://github.com/harritaylor/torchvggish"),
    ("pann", "Cnn14_16k_mAP%3D0.438.pth", "https://zenodo.org/record/3987831/files/Cnn14_16k_mAP%3D0.438.pth"),
    ("encodec", "checkpoints/encodec_24khz-d7cc33bc.th", "https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th"),
    ("clap", "630k-audioset-best.pt", "https://huggingface.co/lukewys/laion_clap/resolve/main/630k-audioset-best.pt"),
]


def test_without_the_package_it_is_named_and_log_mels_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "frechet_audio_distance", None)  # as if it were not installed
    with pytest.raises(UserError, match="vggish needs the package frechet-audio-distance, which is not installed: pip install"):
        make_embedder("vggish", 16_000, tmp_path)
    assert make_embedder("logmel", 16_000).embed(noise(16_000)[None]).isfinite().all()


@pytest.mark.parametrize(("name", "file", "source"), MISSING, ids=[name for name, _, _ in MISSING])
def test_a_missing_file_is_named_with_where_to_get_it_and_where_to_put_it(name, file, source, tmp_path, monkeypatch):
    with pytest.raises(UserError) as given:
        make_embedder(name, 16_000, tmp_path)
    assert str(tmp_path / file) in str(given.value)
    assert source in str(given.value)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    with pytest.raises(UserError) as standard:
        make_embedder(name, 16_000)
    assert str(tmp_path / "home/hub" / file) in str(standard.value)


def test_a_missing_tokenizer_of_clap_is_named(tmp_path, monkeypatch):
    (tmp_path / "630k-audioset-best.pt").touch()
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(UserError, match="bert-base-uncased is not in the cache"):
        make_embedder("clap", 16_000, tmp_path)


@pytest.mark.parametrize(
    ("name", "audio", "embedding"),
    [("pann", 8000, 8000), ("pann", 11_025, 16_000), ("pann", 44_100, 32_000), ("encodec", 16_000, 24_000), ("encodec", 44_100, 48_000)],
)
def test_the_rate_is_the_next_that_the_embedding_takes(name, audio, embedding, tmp_path):
    needed = next(variant.needed for variant in packaged_embedders.VARIANTS[name] if variant.rate == embedding)
    with pytest.raises(UserError, match=next(iter(needed))):
        make_embedder(name, audio, tmp_path)


def test_encodec(tmp_path):
    """Tries its own rate and another, and pads short clips to a second; torch.hub and random states are unchanged."""
    model, checksum = make_encodec(tmp_path)
    hub, random_state = torch.hub.get_dir(), torch.get_rng_state()
    embedder = make_embedder("encodec", 24_000, tmp_path)
    assert "laion_clap" not in sys.modules
    assert torch.hub.get_dir() == hub
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.hub.load.__module__ == "torch.hub"
    assert (embedder.name, embedder.rate, embedder.dimensions) == ("encodec 24000", 24_000, 128)
    assert embedder.weights == {"checkpoints/encodec_24khz-d7cc33bc.th": checksum}
    clips = [noise(30_000), noise(30_000, 1), noise(10_000, 2)]
    with torch.no_grad():
        expected = [model.encoder(clip[None, None])[0].T for clip in clips[:2]]
        expected.append(model.encoder(torch.nn.functional.pad(clips[2], (0, 14_000))[None, None])[0].T)
    for rows, correct in zip(embedder(clips), expected, strict=True):
        assert relative_error(rows, correct) < F32
    low = make_embedder("encodec", 8000, tmp_path)
    tone = torch.sin(torch.arange(24_000) * 2 * torch.pi * 440 / 24_000)
    (resampled,), (native,) = low([tone[::3].contiguous()]), embedder([tone])
    assert relative_error(resampled[5:-5], native[5:-5]) < 0.05


def test_clips_of_one_length_are_encoded_together_and_on_the_device_named(tmp_path, monkeypatch):
    """It runs on the CPU even if there is a GPU."""
    make_encodec(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    embedder = make_embedder("encodec", 24_000, tmp_path, torch.device("cpu"))
    assert torch.cuda.is_available()
    encoder, batches = embedder._package.model.encoder, []
    encoder.register_forward_pre_hook(lambda _, arguments: batches.append(tuple(arguments[0].shape)))
    embedder([noise(24_000), noise(24_000, 1), noise(30_000, 2)])
    assert batches == [(2, 1, 24_000), (1, 1, 30_000)]


def test_what_the_package_swallows_is_raised(tmp_path, monkeypatch):
    make_encodec(tmp_path)
    embedder = make_embedder("encodec", 24_000, tmp_path)

    def fails(*args):
        raise RuntimeError("out of something")

    monkeypatch.setattr(embedder._package.model.encoder, "forward", fails)
    with pytest.raises(UserError, match="the embedding encodec 24000 failed on 24000 samples: out of something"):
        embedder([noise(24_000)])


@pytest.mark.parametrize("content", ["cut", "another model", "no file of torch"])
def test_a_file_that_holds_other_things_is_named(tmp_path, content):
    path = tmp_path / "checkpoints/encodec_24khz-d7cc33bc.th"
    save({"weight": torch.zeros(10_000)}, path)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    if content == "no file of torch":
        path.write_text("not found")
    with pytest.raises(UserError, match=r"encodec_24khz-d7cc33bc.th: not the weights of encodec 24000"):
        make_embedder("encodec", 24_000, tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    model, _ = make_encodec(tmp_path)
    next(model.encoder.parameters()).data[:] = float("nan")
    save(model.state_dict(), tmp_path / "checkpoints/encodec_24khz-d7cc33bc.th")
    with pytest.raises(UserError, match="encodec 24000 gives embeddings that are not finite of clip 0 of 1"):
        make_embedder("encodec", 24_000, tmp_path)([noise(24_000)])


@pytest.mark.parametrize(("seconds", "pieces"), [(0.5, [1]), (10, [10]), (14, [10]), (16, [10, 6])])
def test_clap_takes_ten_seconds_at_a_time(seconds, pieces, tmp_path, monkeypatch):
    """CLAP would take a random ten seconds of longer clips. The model is a stand-in, as the real one needs tokenizers from a hub."""
    heard = []

    class StandIn(torch.nn.Module):
        def __init__(self, enable_fusion, device):
            super().__init__()

        def load_ckpt(self, path):
            assert path == str(tmp_path / "630k-audioset-best.pt")

        def get_audio_embedding_from_data(self, audio, use_tensor):
            heard.append(audio.shape[1] / 48_000)
            return audio.std().expand(1, 512)

    stand_in = ModuleType("laion_clap")
    stand_in.CLAP_Module = StandIn
    monkeypatch.setitem(sys.modules, "laion_clap", stand_in)
    monkeypatch.setattr(packaged_embedders.import_package(clap=False), "laion_clap", None)
    monkeypatch.setattr(packaged_embedders, "check_tokenizers", lambda: None)
    (tmp_path / "630k-audioset-best.pt").touch()
    (rows,) = make_embedder("clap", 48_000, tmp_path)([noise(round(seconds * 48_000))])
    assert rows.shape == (len(pieces), 512)
    assert heard == pieces


def test_encodec_at_48_khz(tmp_path):
    """The model takes stereo: both channels are the clip."""
    from encodec import EncodecModel

    torch.manual_seed(0)
    model = EncodecModel.encodec_model_48khz(pretrained=False).eval()
    save(model.state_dict(), tmp_path / "checkpoints/encodec_48khz-7e698e3e.th")
    embedder = make_embedder("encodec", 44_100, tmp_path)
    assert (embedder.name, embedder.rate, embedder.dimensions) == ("encodec 48000", 48_000, 128)
    native, clips = make_embedder("encodec", 48_000, tmp_path), [noise(50_000), noise(50_000, 1)]
    for rows, clip in zip(native(clips), clips, strict=True):
        with torch.no_grad():
            assert relative_error(rows, model.encoder(clip.expand(1, 2, -1))[0].T) < F32
        packages = native._package.get_embeddings([clip.numpy()], 48_000).reshape(-1, 128)
        assert relative_error(rows, torch.from_numpy(packages)) < F32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rate", "file"),
    [
        ("Cnn14_8k", 8000, "Cnn14_8k_mAP%3D0.416.pth"),
        ("Cnn14_16k", 16_000, "Cnn14_16k_mAP%3D0.438.pth"),
        ("Cnn14", 32_000, "Cnn14_mAP%3D0.431.pth"),
    ],
)
def test_pann(kind, rate, file, tmp_path):
    """Makes and reads a checkpoint of 324 MB, of 14 layers."""
    packaged_embedders.import_package(clap=False)
    from frechet_audio_distance.models import pann

    torch.manual_seed(0)
    model = getattr(pann, kind)(rate, rate * 32 // 1000, rate // 100, 64, 50, rate // 2, 527).eval()
    checksum = save({"model": model.state_dict()}, tmp_path / file)
    embedder = make_embedder("pann", rate, tmp_path)
    assert (embedder.rate, embedder.weights) == (rate, {file: checksum})
    clips = [noise(rate), noise(rate, 1), noise(rate // 32, 2)]
    with torch.no_grad():
        padded = torch.stack([torch.nn.functional.pad(clip, (0, rate - len(clip))) for clip in clips])
        expected = model(padded)["embedding"]
    rows = embedder(clips)
    assert [each.shape for each in rows] == [(1, 2048)] * 3
    assert relative_error(torch.cat(rows), expected) < F32
    alone = torch.stack([torch.from_numpy(embedder._package.get_embeddings([clip.numpy()], rate)) for clip in padded])
    assert relative_error(torch.cat(rows), alone) < 10 * F32  # single clips add up in another order


HUB = """
    import numpy as np
    import torch
    from torch import hub, nn

    dependencies = ["torch", "numpy"]
    RELEASE = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"


    class VGGish(nn.Module):
        def __init__(self):
            super().__init__()
            layers, channels = [], 1
            for width in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M"):
                if width == "M":
                    layers.append(nn.MaxPool2d(2, 2))
                else:
                    layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(True)]
                    channels = width
            self.features = nn.Sequential(*layers)
            sizes = (512 * 4 * 6, 4096, 4096, 128)
            dense = [[nn.Linear(a, b), nn.ReLU(True)] for a, b in zip(sizes, sizes[1:])]
            self.embeddings = nn.Sequential(*sum(dense, []))
            self.postprocess, self.device = True, None
            self.load_state_dict(hub.load_state_dict_from_url(RELEASE + "vggish-10086976.pth"))
            self.principal = hub.load_state_dict_from_url(RELEASE + "vggish_pca_params-970ea276.pth")

        def forward(self, audio, rate):
            assert isinstance(audio, np.ndarray) and rate == 16000 and not self.postprocess
            pieces = torch.from_numpy(audio[: len(audio) // 15360 * 15360]).float().view(-1, 96, 160)
            x = self.features(pieces[:, None, :, ::2][..., :64])
            return self.embeddings(x.permute(0, 2, 3, 1).flatten(1))


    def vggish(**options):
        return VGGish(**options)
"""


def vggish(weights, audio):
    """Returns the embeddings (n, 128) of audio (T,): all layers but the last activation, on the stand-in's pieces."""
    x = audio[: len(audio) // 15_360 * 15_360].view(-1, 1, 96, 160)[..., ::2][..., :64]
    for index in (0, 3, 6, 8, 11, 13):
        x = torch.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1).relu()
        x = x if index in (6, 11) else torch.max_pool2d(x, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)
    for index in (0, 2, 4):
        x = (x if index == 0 else x.relu()) @ weights[f"embeddings.{index}.weight"].T + weights[f"embeddings.{index}.bias"]
    return x


@pytest.mark.slow
def test_vggish(tmp_path):
    """Uses a local hub folder: the layers are real, 288 MB; the front end is a stand-in (samples instead of mel bands)."""
    code = tmp_path / "harritaylor_torchvggish_master"
    code.mkdir()
    (code / "hubconf.py").write_text(textwrap.dedent(HUB))
    torch.manual_seed(0)
    widths, dense = ((1, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512)), ((12_288, 4096), (4096, 4096), (4096, 128))
    weights = {}
    for index, (a, b) in zip((0, 3, 6, 8, 11, 13), widths, strict=True):
        weights |= {f"features.{index}.weight": torch.randn(b, a, 3, 3) / (3 * a**0.5), f"features.{index}.bias": torch.zeros(b)}
    for index, (a, b) in zip((0, 2, 4), dense, strict=True):
        weights |= {f"embeddings.{index}.weight": torch.randn(b, a) / a**0.5, f"embeddings.{index}.bias": torch.zeros(b)}
    save(weights, tmp_path / "checkpoints/vggish-10086976.pth")
    with pytest.raises(UserError, match=r"vggish_pca_params-970ea276.pth: is missing"):
        make_embedder("vggish", 16_000, tmp_path)
    save({}, tmp_path / "checkpoints/vggish_pca_params-970ea276.pth")
    embedder = make_embedder("vggish", 16_000, tmp_path)
    assert (embedder.name, len(embedder.weights)) == ("vggish", 3)
    one, two = embedder([noise(16_000), noise(32_000, 1)])
    assert (one.shape, two.shape) == ((1, 128), (2, 128))
    for rows, clip in ((one, noise(16_000)), (two, noise(32_000, 1))):
        assert relative_error(rows, vggish(weights, clip)) < F32
