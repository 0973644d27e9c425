"""Tests of voices on the Hugging Face Hub: the mixin with a folder, and with a stand-in for the Hub that keeps repositories in folders."""

import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError

from harmonicrnn import Voice, load
from harmonicrnn.errors import UserError
from tests.harmonicrnn.test_voice_folder import make_voice


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Makes a folder of repositories that answers requests to the Hub."""
    place, asked = tmp_path / "hub", []

    class StandIn:
        def __init__(self, token=None):
            asked.append(token)

        def create_repo(self, repo_id, private, exist_ok):
            (place / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, **options):
            shutil.copytree(folder_path, place / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}/commit/1"

    def file(repo_id, filename, **options):
        if not (place / repo_id / filename).is_file():
            raise EntryNotFoundError(f"404: {repo_id}")
        return str(place / repo_id / filename)

    def snapshot(repo_id, revision, allow_patterns, **options):
        asked.append(revision)
        ignored = shutil.ignore_patterns("*.bin", "*.py")
        found = [path.name for pattern in allow_patterns for path in (place / repo_id).glob(pattern)]
        assert "model.safetensors" in found
        return str(shutil.copytree(place / repo_id, tmp_path / "cache", ignore=ignored))

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", StandIn)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", file)
    monkeypatch.setattr("harmonicrnn.hub.snapshot_download", snapshot)
    return SimpleNamespace(place=place, asked=asked)


def same(a, b):
    return all(torch.equal(value, b.net.state_dict()[name]) for name, value in a.net.state_dict().items())


def test_a_folder_and_back(tmp_path):
    voice = make_voice()
    assert voice.save_pretrained(tmp_path / "tiny") is None
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert same(Voice.from_pretrained(tmp_path / "tiny"), voice)
    assert same(load(tmp_path / "tiny"), voice)
    before = (tmp_path / "tiny/config.json").read_bytes()
    with pytest.raises(UserError, match="tiny: exists and is not an empty folder"):
        voice.save_pretrained(tmp_path / "tiny")
    assert (tmp_path / "tiny/config.json").read_bytes() == before


def test_the_card_is_read_by_the_hub(tmp_path):
    make_voice().save(tmp_path / "tiny", license="cc-by-sa-3.0")
    data = ModelCard.load(tmp_path / "tiny/README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-sa-3.0", "harmonicrnn", "text-to-audio")
    assert "autoregressive" in data.tags


def test_the_hub_and_back(hub):
    voice = make_voice()
    assert voice.push_to_hub("me/tiny", token="hf_mine") == "https://hub/me/tiny/commit/1"
    assert hub.asked == ["hf_mine"]
    pushed = hub.place / "me/tiny"
    assert sorted(path.name for path in pushed.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert "\n# tiny\n" in (pushed / "README.md").read_text()
    assert same(load(pushed), voice)
    assert same(Voice.from_pretrained("me/tiny", revision="v1"), voice)
    assert hub.asked[1:] == ["v1"]


def test_saving_and_pushing_in_one(hub, tmp_path):
    assert make_voice().save_pretrained(tmp_path / "here", repo_id="me/there", push_to_hub=True).endswith("me/there/commit/1")
    assert same(load(tmp_path / "here"), load(hub.place / "me/there"))


def test_licence_and_temperature_go_to_the_hub_too(hub, tmp_path):
    own = {"license": "cc0-1.0", "temperature": 0.5}
    make_voice().push_to_hub("me/licensed", **own)
    make_voice().save_pretrained(tmp_path / "here", **own)
    for voice in (Voice.from_pretrained("me/licensed"), Voice.from_pretrained(tmp_path / "here")):
        assert {key: voice.about[key] for key in own} == own


def test_without_the_hubs_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "harmonicrnn.hub", raising=False)
    with pytest.raises(UserError, match=r"the Hub needs the package huggingface_hub: pip install '\.\[hub\]'"):
        Voice.from_pretrained("me/tiny")


def test_what_the_hub_does_not_have(hub, monkeypatch):
    with pytest.raises(UserError, match="me/gone: it is not on the Hub, or the Hub cannot be reached: 404: me/gone: look at the name"):
        Voice.from_pretrained("me/gone")
    with pytest.raises(UserError, match="a/b/c: it is not on the Hub"):
        Voice.from_pretrained("a/b/c")


def test_what_is_damaged_is_named_as_anywhere(hub):
    make_voice().push_to_hub("me/tiny")
    (hub.place / "me/tiny/model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"cache/model\.safetensors: is cut short"):
        Voice.from_pretrained("me/tiny")


def test_the_mixin_is_the_hubs():
    from harmonicrnn.hub import HubVoice

    assert issubclass(HubVoice, huggingface_hub.ModelHubMixin)
    assert Path(huggingface_hub.__file__).parent.name == "huggingface_hub"
