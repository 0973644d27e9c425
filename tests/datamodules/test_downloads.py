"""Tests of downloads from a server on this machine: interrupted, resumed, wrong, gated, or on a full disk."""

import errno
import hashlib
import io
import os
import resource
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import soundfile

from datamodules import SC09, AudioFolder, Beethoven, Maestro, YouTubeMix, archives, downloads
from datamodules.downloads import Archive, FetchedDataModule
from harmonicrnn.errors import UserError
from tests.audio_files import make_sc09, tone
from tests.datamodules.server import Server
from tests.datamodules.test_archives import make_tar, make_zip, tree
from tests.forking import in_child, status_of

LIMIT = 10_000_000


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    for module in ("file_download", "utils._http"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time", SimpleNamespace(sleep=lambda seconds: None))
    with Server() as running:
        yield running


def wav(seed, samples=4000):
    file = io.BytesIO()
    soundfile.write(file, tone(samples, seed), 16_000, format="WAV")
    return file.getvalue()


CONTENT = {f"out{i}.wav": wav(i) for i in range(10)}


class Wavs(AudioFolder, FetchedDataModule):
    @staticmethod
    def holds_data(folder):
        return any(folder.glob("*.wav"))


@pytest.fixture
def archive(server, tmp_path):
    """Puts a zip of ten recordings in a folder, about 80 kB, on the server; returns the Archive."""
    content = make_zip(tmp_path / "made.zip", {f"set/{name}": data for name, data in CONTENT.items()}).read_bytes()
    (tmp_path / "made.zip").unlink()
    server.files["/some/set.zip"] = content
    return Archive(f"{server.url}/some/set.zip", LIMIT, hashlib.sha256(content).hexdigest())


def fetch(tmp_path, archive):
    data = Wavs(tmp_path / "data/set", download=True)
    data.archive = archive
    data.fetch()


def check_whole(tmp_path):
    assert tree(tmp_path / "data") == {f"set/{name}": data for name, data in CONTENT.items()}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set"]


def gets(server):
    return [start for method, _, start in server.requests if method == "GET"]


def failing(tmp_path, archive, message):
    with pytest.raises(UserError, match=message) as caught:
        fetch(tmp_path, archive)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data/set").exists()


@pytest.mark.parametrize("make_root", [False, True], ids=["no_folder", "empty_folder"])
def test_fetches(tmp_path, server, archive, make_root):
    if make_root:
        (tmp_path / "data/set").mkdir(parents=True)
    fetch(tmp_path, archive)
    check_whole(tmp_path)
    server.requests.clear()
    fetch(tmp_path, archive)
    assert not server.requests


def test_a_link_to_another_disk_is_followed(tmp_path, archive):
    (tmp_path / "large").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/set").symlink_to(tmp_path / "large/set")
    fetch(tmp_path, archive)
    assert tree(tmp_path / "large/set") == CONTENT
    assert [path.name for path in (tmp_path / "large").iterdir()] == ["set"]


def test_a_cut_connection_is_taken_up_where_it_broke(tmp_path, server, archive):
    server.cuts = [1000, 0, 20_000, 500]
    fetch(tmp_path, archive)
    check_whole(tmp_path)
    assert gets(server) == [None, 1000, 1000, 21_000, 21_500]


def test_after_giving_up_the_next_attempt_goes_on(tmp_path, server, archive):
    server.cuts = [30_000, 0, 0, 0, 0, 0]
    failing(tmp_path, archive, "could not be downloaded; what has arrived is kept")
    assert (tmp_path / "data/set.download/set.zip.part").stat().st_size == 30_000
    server.requests.clear()
    fetch(tmp_path, archive)
    assert gets(server) == [30_000]
    check_whole(tmp_path)


def test_a_server_without_ranges_starts_anew(tmp_path, server, archive):
    server.ranges, server.cuts = False, [1000, 2000]
    fetch(tmp_path, archive)
    check_whole(tmp_path)
    assert len(gets(server)) == 3


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(tmp_path, server, archive):
    server.ranges, server.cuts = False, [1000] * 100
    failing(tmp_path, archive, "could not be downloaded")
    assert len(gets(server)) < 10


def test_a_file_that_is_longer_is_not_continued(tmp_path, server, archive):
    work = tmp_path / "data/set.download"
    work.mkdir(parents=True)
    size = len(server.files["/some/set.zip"])
    (work / "set.zip.part").write_bytes(b"x" * (size + 1))
    fetch(tmp_path, archive)
    assert gets(server) == [None]
    check_whole(tmp_path)


def test_a_wrong_checksum(tmp_path, server, archive):
    work = tmp_path / "data/set.download"
    work.mkdir(parents=True)
    (work / "set.zip.part").write_bytes(b"x" * 1000)
    failing(tmp_path, archive, rf"SHA-256 is [0-9a-f]{{64}}, published is {archive.sha256}; the file was removed")
    assert not work.exists()
    fetch(tmp_path, archive)
    check_whole(tmp_path)


@pytest.mark.parametrize(("status", "told"), [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service Unavailable")])
def test_a_server_that_refuses(tmp_path, server, archive, status, told):
    server.status = status
    failing(tmp_path, archive, f"set.zip: could not be downloaded.*{told}")
    assert not (tmp_path / "data/set.download").exists()


def test_no_server(tmp_path, archive):
    with Server() as gone:
        pass
    failing(tmp_path, replace(archive, url=f"{gone.url}/set.zip"), "set.zip: could not be downloaded")


def test_a_server_that_sends_more_than_it_declared(tmp_path, server, archive, monkeypatch):
    monkeypatch.setattr(Archive, "size_and_checksum", lambda self: (10_000, self.sha256))
    failing(tmp_path, archive, "sends more than the 10000 bytes")
    assert (tmp_path / "data/set.download/set.zip.part").stat().st_size <= 10_000


@pytest.mark.parametrize("there", [0, 5000])
def test_space_is_checked_first(tmp_path, server, archive, monkeypatch, there):
    work = tmp_path / "data/set.download"
    work.mkdir(parents=True)
    (work / "set.zip.part").write_bytes(server.files["/some/set.zip"][:there])
    needed = len(server.files["/some/set.zip"]) - there + LIMIT
    free = [needed - 1]
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    failing(tmp_path, archive, r"too little space: 0\.01 GB are needed \(0\.00 GB to download, 0\.01 GB unpacked\), 0\.01 GB are free")
    assert not gets(server)
    free[0] += 1
    fetch(tmp_path, archive)
    check_whole(tmp_path)


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_while_unpacking(tmp_path, server, archive, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "copyfileobj", full)
        failing(tmp_path, archive, "set.zip cannot be unpacked or written there: No space left on device")
    assert [p.name for p in sorted((tmp_path / "data/set.download").iterdir())] == ["lock", "set.zip"]
    server.requests.clear()
    fetch(tmp_path, archive)
    assert not server.requests
    check_whole(tmp_path)


def test_a_disk_that_fills_while_downloading(tmp_path, server, archive, monkeypatch):
    """Files are limited to 30,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        failing(tmp_path, archive, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    server.requests.clear()
    fetch(tmp_path, archive)
    assert gets(server) == [30_000]
    check_whole(tmp_path)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path, server, archive):
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"data/set: holds other files than the dataset"):
        fetch(tmp_path, archive)
    assert tree(tmp_path / "data") == {"set/notes.txt": b"mine"}
    assert not server.requests


def test_an_archive_of_something_else(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(Wavs, "holds_data", staticmethod(lambda folder: (folder / "table.csv").exists()))
    failing(tmp_path, archive, r"set\.zip: does not have the expected files")


def test_an_archive_that_would_escape(tmp_path, server):
    content = make_zip(tmp_path / "evil.zip", {"../../out.wav": b"x"}).read_bytes()
    server.files["/evil.zip"] = content
    evil = Archive(f"{server.url}/evil.zip", LIMIT, hashlib.sha256(content).hexdigest())
    failing(tmp_path, evil, "would lie outside the folder.*remove that file")
    assert not list(tmp_path.rglob("out.wav"))


def test_killed_at_any_time_it_goes_on(tmp_path, server, archive, monkeypatch):
    """Kills in turn the download and the unpacking, a little later each time; a piece of 5,000 bytes takes 5 ms, a file 10 ms."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 5000)
    copy, size = archives.shutil.copyfileobj, len(server.files["/some/set.zip"])
    seen = set()
    part, unpacked = tmp_path / "data/set.download/set.zip.part", tmp_path / "data/set.download/unpacked"

    def downloading():
        return part.exists() and 0 < part.stat().st_size < size

    def slow_copy(*args):
        time.sleep(0.01)
        copy(*args)

    monkeypatch.setattr(archives.shutil, "copyfileobj", slow_copy)
    write = downloads._Part.write
    monkeypatch.setattr(downloads._Part, "write", lambda *args: (time.sleep(0.005), write(*args))[1])
    for attempt in range(12):
        pid = in_child(lambda: fetch(tmp_path, archive))
        under_way = [downloading, unpacked.exists][attempt % 2]
        while not under_way() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.001)
        time.sleep(0.002 * attempt)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        seen.add("part" if downloading() else "")
        seen.add("unpacked" if unpacked.exists() else "")
        if (tmp_path / "data/set").exists():
            assert tree(tmp_path / "data/set") == CONTENT
    assert {"part", "unpacked"} <= seen
    fetch(tmp_path, archive)
    check_whole(tmp_path)


def test_what_was_not_cleaned_up_is_cleaned_up_the_next_time(tmp_path, server, archive):
    fetch(tmp_path, archive)
    server.requests.clear()
    work = tmp_path / "data/set.download"
    (work / "unpacked/rest").mkdir(parents=True)
    (work / "lock").touch()
    (work / "set.zip").touch()
    fetch(tmp_path, archive)
    check_whole(tmp_path)
    assert not server.requests


def test_two_processes_at_once_take_turns(tmp_path, server, archive):
    children = [in_child(lambda: fetch(tmp_path, archive)) for _ in range(2)]
    assert [status_of(pid) for pid in children] == [0, 0]
    check_whole(tmp_path)
    assert len(gets(server)) == 1


def test_published_facts():
    """Checks the checksum that the installed torchaudio verifies too."""
    from torchaudio.datasets.speechcommands import _CHECKSUMS

    assert _CHECKSUMS[SC09.archive.url] == SC09.archive.sha256
    assert (YouTubeMix.archive.dataset, YouTubeMix.archive.name) == ("krandiash/youtubemix", "youtube_mix.zip")
    assert (Beethoven.archive.dataset, Beethoven.archive.name) == ("krandiash/beethoven", "beethoven.zip")


def on_server(server, monkeypatch, dataset, path, content):
    server.files[path] = content
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(dataset, "archive", Archive(f"{server.url}{path}", dataset.archive.unpacked // 1000, checksum))


def test_sc09(tmp_path, server, monkeypatch):
    """The members are at the top of the archive."""
    members = {f"./{name}": content for name, content in tree(make_sc09(tmp_path / "made")).items()}
    on_server(server, monkeypatch, SC09, "/sc.tar.gz", make_tar(tmp_path / "made.tar.gz", members).read_bytes())
    data = SC09(tmp_path / "data/sc09", download=True, clip_samples=320, batch_size=4)
    data.prepare_data()
    assert {split: len(paths) for split, paths in data.files().items()} == {"train": 20, "validation": 3, "test": 2}


def test_maestro(tmp_path, server, monkeypatch):
    """The members are in a folder, next to those that some programs add."""
    table = "split,audio_filename\n" + "".join(f"{split},2004/{split}.wav\n" for split in ("train", "validation", "test"))
    members = {"maestro-v3.0.0/maestro-v3.0.0.csv": table.encode(), "__MACOSX/maestro-v3.0.0/._x": b"x"}
    members |= {f"maestro-v3.0.0/2004/{split}.wav": wav(1) for split in ("train", "validation", "test")}
    on_server(server, monkeypatch, Maestro, "/maestro.zip", make_zip(tmp_path / "made.zip", members).read_bytes())
    data = Maestro(tmp_path / "data/maestro", download=True, clip_samples=1000)
    data.prepare_data()
    assert [len(paths) for paths in data.files().values()] == [1, 1, 1]


@pytest.mark.parametrize("dataset", [SC09, Maestro, YouTubeMix, Beethoven])
def test_nothing_is_fetched_unasked_or_twice(tmp_path, monkeypatch, dataset):
    monkeypatch.setattr(Archive, "size_and_checksum", lambda archive: pytest.fail("the network was asked"))
    with pytest.raises(UserError, match=r"--data\.download true"):
        dataset(tmp_path / "none").prepare_data()
    assert not list(tmp_path.iterdir())
    there = make_sc09(tmp_path / "there")
    (there / "maestro-v3.0.0.csv").touch()
    (there / "a.wav").touch()
    dataset(there, download=True).fetch()


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """Makes the Hub's library ask the server, without a login."""
    from huggingface_hub import constants

    for name, value in (("ENDPOINT", server.url), ("HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    content = make_zip(tmp_path / "made.zip", {f"youtube_mix/{name}": data for name, data in CONTENT.items()}).read_bytes()
    server.files["/datasets/krandiash/youtubemix/resolve/main/youtube_mix.zip"] = content
    server.headers = {"X-Repo-Commit": "0" * 40}
    return server


def test_from_the_hub(tmp_path, hub):
    data = YouTubeMix(tmp_path / "data/set", download=True)
    data.fetch()
    check_whole(tmp_path)
    assert len(data.files()["train"]) == 8


def test_the_login_is_for_the_hub_alone(tmp_path, hub, archive, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    fetch(tmp_path, archive)
    assert hub.logins == [None, None]
    YouTubeMix(tmp_path / "data/other", download=True).fetch()
    assert hub.logins[2:] == ["Bearer hf_mine"] * 2


def test_a_cut_connection_to_the_hub_is_taken_up_where_it_broke(tmp_path, hub, monkeypatch):
    hub.cuts = [30_500]
    YouTubeMix(tmp_path / "data/set", download=True).fetch()
    check_whole(tmp_path)
    assert gets(hub)[1] >= 29_500


def test_a_wrong_checksum_from_the_hub(tmp_path, hub):
    path = "/datasets/krandiash/youtubemix/resolve/main/youtube_mix.zip"
    published = hashlib.sha256(hub.files[path]).hexdigest()
    hub.headers["X-Linked-Etag"] = f'"{published}"'
    hub.files[path] = hub.files[path][::-1]
    with pytest.raises(UserError, match=f"published is {published}; the file was removed"):
        YouTubeMix(tmp_path / "data/set", download=True).fetch()
    assert not list((tmp_path / "data").rglob("*.zip"))


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_dataset(tmp_path, hub, status):
    hub.status = status
    hub.headers["X-Error-Code"] = "GatedRepo"
    with pytest.raises(UserError) as caught:
        YouTubeMix(tmp_path / "data/set", download=True).fetch()
    for part in ("gated", "https://huggingface.co/datasets/krandiash/youtubemix", "hf auth login", "HF_TOKEN"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data/set.download").exists()


@pytest.mark.parametrize("status", [404, 500])
def test_a_hub_that_refuses(tmp_path, hub, status):
    hub.status = status
    with pytest.raises(UserError, match=f"youtube_mix.zip: could not be downloaded.*{status}") as caught:
        YouTubeMix(tmp_path / "data/set", download=True).fetch()
    assert "\n" not in str(caught.value)


def test_no_hub(tmp_path, hub, monkeypatch):
    from huggingface_hub import constants

    with Server() as gone:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", gone.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", gone.url + "/{repo_id}/resolve/{revision}/{filename}")
    with pytest.raises(UserError, match=r"youtube_mix\.zip: could not be downloaded"):
        YouTubeMix(tmp_path / "data/set", download=True).fetch()
