"""Tests of the clip writer: likelihoods, batches, redrawn clips, full disks, wrong settings, memory use and interrupted runs."""

import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from harmonicrnn.audio import Quantiser
from harmonicrnn.errors import UserError
from harmonicrnn.generation import PlainEngine
from harmonicrnn.generation.clip_folder import Generated, hold_clips_folder
from harmonicrnn.generation.clip_writer import ClipWriter, Settings
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.detectors import Finding, Reference
from harmonicrnn.generation.sampler import generator, read_prompt, spread
from harmonicrnn.models import LevelSpec, sample_nats
from tests.harmonicrnn.models.test_harmonic_rnn import make_model

RATE = 1000
SMALL = {"levels": (LevelSpec(8, 1),), "bits": 8, "dtype": torch.float32}
REFERENCE = Reference()


def writer_for(net, prompt=None, reference=REFERENCE, plain=False):
    state = read_prompt(net, [] if prompt is None else [prompt[None]])
    engine = PlainEngine(net) if plain else CPUEngine(net, threads=1)
    return ClipWriter(engine, lambda numbers: spread(state, len(numbers)), Quantiser(net.bits), RATE, reference)


@pytest.mark.parametrize(("bits", "settings", "plain"), [(8, {}, True), (8, {"temperature": 0.7, "top_p": 0.9}, False), (10, {}, False)])
def test_the_likelihood_is_that_of_the_files(tmp_path, bits, settings, plain):
    """Its temperature and top_p are 1, whatever the clip was drawn with; also after a prompt."""
    net = make_model(**SMALL | {"bits": bits}) if plain else make_model(bits=bits, dtype=torch.float32)
    prompt = torch.randint(net.classes, (37,))
    (clip,) = writer_for(net, prompt, plain=plain).write(tmp_path, Settings(seconds=0.3, **settings))
    classes = np.load(tmp_path / "clip_0000.npy")
    assert classes.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert len(classes) == clip.samples == 300
    _, state = net(prompt[None])
    heard = [torch.from_numpy(classes.astype(np.int64))]
    samples, rate = soundfile.read(tmp_path / "clip_0000.wav", dtype="float32")
    assert rate == RATE
    if bits == 8:
        heard.append(Quantiser(8).encode((torch.from_numpy(samples) + 1) / 2).long())
    for each in heard:
        with torch.no_grad():
            fresh = sample_nats(net(each[None], state)[0], each[None]).double().mean().item() / math.log(2)
        assert clip.bits_per_sample == pytest.approx(fresh, abs=1e-5)


def test_clips_do_not_depend_on_the_batch(tmp_path):
    net = make_model(**SMALL)
    for batch in (1, 2, 5):
        folder = tmp_path / str(batch)
        folder.mkdir()
        clips = list(writer_for(net).write(folder, Settings(seconds=0.26, clips=5, batch=batch, seed=7)))
        assert [clip.number for clip in clips] == [0, 1, 2, 3, 4]
    for name in ("clip_0000.wav", "clip_0003.npy", "clip_0004.wav"):
        contents = {(tmp_path / str(batch) / name).read_bytes() for batch in (1, 2, 5)}
        assert len(contents) == 1
    assert len({path.read_bytes() for path in (tmp_path / "5").glob("*.npy")}) == 5


class Judge(Reference):
    """Finds noise in the clips whose first frame has a level in `bad`."""

    def findings(self, frames):
        return [Finding("noise", 0.0, 1.0)] if frames[0, 0] in self.bad else []


def levels(folder, net, settings):
    """Returns the level of each clip's first frame, which identifies the clip."""
    found = {}

    class Recorder(Reference):
        def findings(self, frames):
            found[len(found)] = frames[0, 0]
            return []

    list(writer_for(net, reference=Recorder()).write(folder, settings))
    return found


def test_bad_clips_are_drawn_again_so_often_and_counted(tmp_path):
    net = make_model(**SMALL)
    settings = Settings(seconds=0.25, clips=3, batch=2, seed=1, reject=2)
    first = levels(tmp_path, net, settings)
    once = Judge()
    object.__setattr__(once, "bad", {first[1]})
    clips = {clip.number: clip for clip in writer_for(net, reference=once).write(tmp_path, settings)}
    assert {number: clip.redraws for number, clip in clips.items()} == {0: 0, 1: 1, 2: 0}
    assert not any(clip.findings for clip in clips.values())
    redrawn = np.load(tmp_path / "clip_0001.npy")
    assert len(redrawn) == 250

    class Never(Reference):
        def findings(self, frames):
            return [Finding("silence", 0.0, 1.0)]

    clips = list(writer_for(net, reference=Never()).write(tmp_path, settings))
    assert [(clip.redraws, len(clip.findings)) for clip in clips] == [(2, 1)] * 3
    # Each draw has its own random numbers.
    draws = {tuple(generator(1, clip, redraw).random(3).tolist()) for clip in range(4) for redraw in range(4)}
    assert len(draws) == 16


def test_a_disk_that_fills_up_is_an_error_that_names_the_file(tmp_path):
    """A limit on the process's file sizes stands for the full disk; what was written before can be played."""
    writer = writer_for(make_model(**SMALL))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (44 + 2 * 300, before[1]))
    try:
        with pytest.raises(UserError, match=r"clip_0000\.wav: cannot be written: File too large"):
            list(writer.write(tmp_path, Settings(seconds=0.6)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    samples, _ = soundfile.read(tmp_path / "clip_0000.wav")
    assert len(samples) == 256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 0}, "--seconds must be above 0, got 0"),
        ({"seconds": -1.0}, "--seconds must be above 0"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"seconds": math.inf}, "--seconds must be above 0"),
        ({"seconds": math.nan}, "--seconds must be above 0"),
        ({"clips": 0}, "--clips must be at least 1"),
        ({"batch": 0}, "--batch must be at least 1"),
        ({"temperature": -0.1}, "--temperature must be 0 or more"),
        ({"temperature": math.nan}, "--temperature must be 0 or more"),
        ({"top_p": 0}, "--top_p must be above 0 and at most 1"),
        ({"top_p": 1.1}, "--top_p must be above 0 and at most 1"),
        ({"top_p": math.nan}, "--top_p must be above 0 and at most 1"),
        ({"reject": -1}, "--reject must be 0 or more"),
        ({"reject": 1, "temperature": 0}, "--reject has no use at --temperature 0"),
        ({"clips": 10**6, "batch": 10**6}, "two open files"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        Settings(**changes)


def test_files_may_be_open_without_end_where_there_is_no_limit_or_none_is_told(monkeypatch):
    many = {"clips": 10**6, "batch": 10**6}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert Settings(**many).batch == 10**6
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it fails
    assert Settings(**many).batch == 10**6


def test_lengths_that_cannot_be():
    with pytest.raises(UserError, match="less than one sample"):
        Settings(seconds=1e-6).samples(16_000)
    with pytest.raises(UserError, match="more than a WAV can hold"):
        Settings(seconds=150_000).samples(16_000)
    assert Settings(seconds=150_000, format="flac").samples(16_000) == 2_400_000_000
    assert Settings(seconds=150_000).samples(16_000, to_file=False) == 2_400_000_000


MEMORY = """
import os, sys, tempfile, torch
from pathlib import Path
from harmonicrnn.audio import Quantiser
from harmonicrnn.generation.clip_writer import ClipWriter, Settings
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.detectors import Reference
from harmonicrnn.generation.sampler import read_prompt
from harmonicrnn.models import HarmonicRNN, LevelSpec
torch.manual_seed(0)
net = HarmonicRNN([LevelSpec(4, 1)], preset="griffin", heads=1, groups=1)
state = read_prompt(net, [])
resident = []
watch = lambda samples: resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"))
writer = ClipWriter(CPUEngine(net, threads=1), lambda numbers: state, Quantiser(), 1000, Reference(), watch)
peaks = []
for seconds in (5, 155):
    with tempfile.TemporaryDirectory() as folder:
        (clip,) = writer.write(Path(folder), Settings(seconds=seconds))
        assert clip.samples == 1000 * seconds
    peaks.append(max(resident))
print((peaks[1] - peaks[0]) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length():
    """Runs in a process of its own, so that nothing else allocates memory, and measures resident memory, as compilation sets the peak.
    150,000 more samples would take 8 bytes per class if they were kept."""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024  # KiB


def test_what_a_kill_left_of_the_first_manifest_is_in_no_ones_way(tmp_path):
    (tmp_path / ".0123456789abcdef.part").touch()
    (tmp_path / ".lock").touch()
    with hold_clips_folder(tmp_path, tmp_path, overwrite=False) as folder:
        assert folder == tmp_path
        Generated(folder, {"settings": {"format": "wav"}}).begin(Settings(seconds=1.0), 8000, Quantiser(8), None)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
