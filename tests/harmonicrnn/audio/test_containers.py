"""Tests of headers that do not say where the samples end, for which libsndfile alone returns a wrong length or never returns."""

import io
import struct

import numpy as np
import pytest
import soundfile

from harmonicrnn.audio import read_mono, stream_mono
from harmonicrnn.audio.containers import Content, Window, content_of
from harmonicrnn.audio.reading import SUFFIXES, probe
from harmonicrnn.errors import UserError

RATE, LENGTH = 8000, 20_000


def noise(samples=LENGTH, seed=0):
    return np.random.default_rng(seed).integers(-8000, 8000, samples).astype("<i2")


def wav(data, size=None, riff=None, order="<", after=b""):
    size = len(data) if size is None else size
    form = struct.pack(f"{order}4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    head = struct.pack(f"{order}4sI4s", b"RIFX" if order == ">" else b"RIFF", 36 + size if riff is None else riff, b"WAVE")
    return head + form + struct.pack(f"{order}4sI", b"data", size) + data + after


def read(path, content=None):
    """Returns the samples of a file (first written with `content`, if given) and the list of messages."""
    if content is not None:
        path.write_bytes(content)
    told = []
    return np.concatenate(list(stream_mono(path, RATE, told.append))), told


@pytest.mark.parametrize(
    ("size", "riff"),
    [
        *((size, size) for size in (0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)),
        *((0, 8), (0, 36), (0x80000000, 0x80000024), (0x7FFFFFDB, 0x7FFFFFFF), (0xFFFFFFDB, 0xFFFFFFFF), (0x7FFFF000, 0x7FFFF024)),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_streamed_wav_is_read_to_its_end(tmp_path, size, riff, order):
    data = noise()
    samples, told = read(tmp_path / "a.wav", wav(data.astype(f"{order}i2").tobytes(), size, riff, order))
    assert np.array_equal(samples * 32768, data)
    assert not told


@pytest.mark.parametrize("after", [b"LIST\4\0\0\0INFO", b"LIST\3\0\0\0INF\0cue \0\0\0\0", bytes(600), b"\0" * 5, b"abc"])
@pytest.mark.parametrize("samples", [0, 1, 777])
def test_chunks_and_padding_after_the_samples_are_none(tmp_path, after, samples):
    content = wav(noise(samples).tobytes(), riff=36 + 2 * samples + len(after), after=after)
    if not samples:
        with pytest.raises(UserError, match="holds no samples"):
            read(tmp_path / "a.wav", content)
    else:
        assert [len(part) for part in read(tmp_path / "a.wav", content)] == [samples, 0]


@pytest.mark.parametrize(("size", "riff"), [(0, 0), (0, None), (0x7FFFFFFF, 0x7FFFFFFF)])
def test_silence_at_the_beginning_is_no_padding(tmp_path, size, riff):
    data = np.concatenate([np.zeros(3000, "<i2"), noise()])
    samples, told = read(tmp_path / "a.wav", wav(data.tobytes(), size, 36 + 2 * len(data) if riff is None else riff))
    assert np.array_equal(samples * 32768, data)
    assert not told


def test_silence_behind_the_samples_that_are_counted_is_told_of_with_a_line_to_paste(tmp_path):
    data = np.concatenate([noise(), np.zeros(10, "<i2"), noise()])
    samples, told = read(tmp_path / "a b.wav", wav(data.tobytes(), 2 * LENGTH))
    assert len(samples) == LENGTH
    assert f"{2 * LENGTH + 20} bytes follow the samples" in told[0]
    assert f"-i '{tmp_path}/a b.wav'" in told[0]


def test_a_warning_names_a_file_whose_name_is_like_its_placeholder(tmp_path):
    path = tmp_path / "FILE_1.wav"
    _, told = read(path, wav(noise().tobytes(), size=2000))
    assert told[0].startswith(f"{path}: ")
    assert f"-i {path} REPAIRED.wav" in told[0]


def test_a_flac_with_a_tag_behind_it(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(), RATE)
    with (tmp_path / "a.flac").open("ab") as file:
        file.write(b"TAG" + bytes(125))
    samples, told = read(tmp_path / "a.flac")
    assert np.array_equal(samples * 32768, noise())
    assert not told


def test_what_follows_the_samples_and_is_no_chunk_is_told_of(tmp_path):
    samples, told = read(tmp_path / "a.wav", wav(noise().tobytes(), size=2000))
    assert len(samples) == 1000
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'a.wav'}: {2 * LENGTH - 2000} bytes follow the samples")


def test_a_size_that_wrapped_at_4_gib(tmp_path):
    """A sparse file: its content is located, not read."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(b"", size=3000))
    size = (1 << 32) + 3000
    with path.open("r+b") as file:
        file.truncate(44 + size)
        content = content_of(file, 44 + size)
        (window,) = content.windows
        head = window.read(80)
    assert head[:4] == b"RF64"
    assert struct.unpack("<Q", head[28:36]) == (size,)
    assert window.length == 80 + size
    assert not content.fault
    with path.open("rb") as file, soundfile.SoundFile(Window(file, 44, 44 + size, head)) as sound:
        assert sound.frames == size // 2
    assert probe(path).rate == RATE


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "IMA_ADPCM", "MS_ADPCM", "NMS_ADPCM_32", "ULAW", "PCM_24", "DOUBLE"])
def test_every_codec_of_a_wav_is_read_whole_or_told_to_be_cut(tmp_path, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise() / 32768, RATE, subtype=subtype)
    assert LENGTH <= len(read_mono(path, RATE)) < LENGTH + 1100  # padded to a block
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match=r"a\.wav: is cut short"):
        read_mono(path, RATE)


@pytest.mark.parametrize("suffix", ["mp3", "opus", "aiff", "au", "caf", "w64", "flac", "ogg"])
def test_every_format_is_read_whole_or_told_to_be_cut(tmp_path, suffix):
    assert f".{suffix}" in SUFFIXES
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise() / 32768, RATE, **({"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}))
    assert len(read_mono(path, RATE)) == LENGTH
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"a\.{suffix}: (is cut short|cannot be read as audio)"):
        read_mono(path, RATE)


@pytest.mark.parametrize("suffix", ["au", "caf", "w64"])
def test_a_second_file_behind_the_first_is_told_of_with_a_line_that_cuts_it_out(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(), RATE)
    whole = path.read_bytes()
    samples, told = read(path, whole * 2)
    assert np.array_equal(samples * 32768, noise())
    assert len(told) == 1
    assert told[0].startswith(f"{path}: {len(whole)} bytes follow the samples")
    assert told[0].endswith(f"tail -c {len(whole)} {path} > REST.{suffix}")
    for content in (whole, whole + bytes(40)):  # as it is, and with padding
        samples, told = read(path, content)
        assert np.array_equal(samples * 32768, noise())
        assert not told


@pytest.mark.parametrize("size", [2 * LENGTH, 0xFFFFFFFF])
@pytest.mark.parametrize(("order", "magic"), [(">", b".snd"), ("<", b"dns.")])
def test_an_au_of_either_byte_order_and_of_unknown_length(tmp_path, size, order, magic):
    content = magic + struct.pack(f"{order}5I", 24, size, 3, RATE, 1) + noise().astype(f"{order}i2").tobytes()
    samples, told = read(tmp_path / "a.au", content + b"more")
    assert len(samples) == LENGTH + (2 if size == 0xFFFFFFFF else 0)
    assert len(told) == (size != 0xFFFFFFFF)


@pytest.mark.parametrize("size", [0, 24, (1 << 63) - 1])
def test_a_w64_of_unknown_length_is_not_cut(tmp_path, size):
    soundfile.write(tmp_path / "a.w64", noise(), RATE)
    content = bytearray((tmp_path / "a.w64").read_bytes())
    content[16:24] = content[96:104] = struct.pack("<Q", size)
    with io.BytesIO(content) as file:
        assert content_of(file, len(content)) == Content()


def test_chunks_after_the_samples_of_a_caf(tmp_path):
    head = b"caff\0\1\0\0" + struct.pack(">4sqd4sIIIII", b"desc", 32, RATE, b"lpcm", 0, 2, 1, 1, 16)
    content = head + struct.pack(">4sqI", b"data", 4 + 2 * LENGTH, 0) + noise().astype(">i2").tobytes()
    samples, told = read(tmp_path / "a.caf", content + struct.pack(">4sq", b"free", 8) + bytes(8))
    assert np.array_equal(samples * 32768, noise())
    assert not told


def unknown_length(path):
    """Returns the bytes of a FLAC file as `GrowingFlac` leaves it if it is killed."""
    soundfile.write(path, noise(), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:42] = bytes(20)
    return bytes(content)


def test_a_flac_of_unknown_length(tmp_path):
    content = unknown_length(tmp_path / "a.flac")
    samples, told = read(tmp_path / "a.flac", content)
    assert np.array_equal(samples * 32768, noise())
    assert not told
    samples, told = read(tmp_path / "a.flac", content[: len(content) // 2])
    assert np.array_equal(samples * 32768, noise()[: len(samples)])
    assert LENGTH // 2 - 2 * 4096 < len(samples) <= LENGTH // 2
    assert len(told) == 1
    assert f"a.flac: is cut short or damaged after {len(samples)} frames" in told[0]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_files_in_a_row(tmp_path, subtype):
    """Files after the first have another rate; each is resampled on its own."""
    links = []
    for rate, seed in ((RATE, 0), (2 * RATE, 1), (2 * RATE, 2)):
        soundfile.write(tmp_path / "link.ogg", noise(2 * rate, seed) / 32768, rate, format="OGG", subtype=subtype)
        links.append((tmp_path / "link.ogg").read_bytes())
    (tmp_path / "a.ogg").write_bytes(b"".join(links))
    assert len(read_mono(tmp_path / "a.ogg", RATE)) == 3 * 2 * RATE
    (tmp_path / "a.ogg").write_bytes(b"".join(links) + b"TAG" + bytes(125))
    assert len(read_mono(tmp_path / "a.ogg", RATE)) == 3 * 2 * RATE
    (tmp_path / "a.ogg").write_bytes(b"".join(links)[:-100])
    with pytest.raises(UserError, match="cut short"):
        read_mono(tmp_path / "a.ogg", RATE)
    (tmp_path / "a.ogg").write_bytes(links[0][:-100] + links[1])
    with pytest.raises(UserError, match="cut short or damaged"):
        read_mono(tmp_path / "a.ogg", RATE)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_without_a_count_of_frames(tmp_path, rate, channels):
    """Reads files with a variable bit rate: as cut out of a stream, and several in a row."""
    parts = np.stack([noise(3 * rate) / 32768] * channels, axis=1)
    parts[rate : 2 * rate] = 0
    with soundfile.SoundFile(tmp_path / "a.mp3", "w", rate, channels, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as file:
        file.write(parts)
    whole = (tmp_path / "a.mp3").read_bytes()
    assert len(read_mono(tmp_path / "a.mp3", rate)) == 3 * rate
    (tmp_path / "a.mp3").write_bytes(whole[whole.index(whole[:2], 4) :])
    assert 3 * rate <= len(read_mono(tmp_path / "a.mp3", rate)) < 3 * rate + 4000
    (tmp_path / "a.mp3").write_bytes(b"ID3\4\0\0\0\0\1\2" + bytes(130) + whole + whole * 2)
    assert 9 * rate <= len(read_mono(tmp_path / "a.mp3", rate)) < 9 * rate + 12_000


@pytest.mark.parametrize("scale", [128, 32768, 1 << 31])
def test_floats_of_another_scale_are_refused(tmp_path, scale):
    soundfile.write(tmp_path / "a.wav", noise() / 8000 * scale, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav: holds a sample of .* near sample 0, where full scale is 1"):
        read_mono(tmp_path / "a.wav", RATE)


@pytest.mark.parametrize("rate", [1, 31, 3_000_000])
def test_rates_that_cannot_be_right_are_refused(tmp_path, rate):
    content = bytearray(wav(noise().tobytes()))
    content[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.wav: claims a rate of {rate} Hz"):
        read_mono(tmp_path / "a.wav", RATE)


def test_what_is_no_audio_file(tmp_path):
    for name, content in (("a.m4a", b"\0\0\0\x20ftypM4A " + bytes(100)), ("a.raw", bytes(100)), ("a b.wma", bytes(100))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read as audio.*ffmpeg -i \S*a") as caught:
            read_mono(tmp_path / name, RATE)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(UserError, match="is no file"):
        read_mono(tmp_path, RATE)


def test_a_window_is_a_file():
    with io.BytesIO(bytes(range(100))) as file:
        window = Window(file, 10, 20, b"head")
        assert window.read() == b"head" + bytes(range(10, 20))
        assert window.seek(-3, io.SEEK_END) == 11
        assert window.read(10) == bytes(range(17, 20))
        assert window.read(1) == b""
