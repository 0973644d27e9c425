"""Download of datasets that are published as archives, with resuming and checksums.

Archives are downloaded to and unpacked in `ROOT.download` beside the dataset's folder, and moved into place when complete. After an
interruption, the next attempt resumes the download and restarts unpacking.
"""

import hashlib
import io
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from rich import progress

from datamodules.archives import unpack
from datamodules.audio_datamodule import AudioDataModule
from harmonicrnn.errors import UserError
from harmonicrnn.process_lock import sole_process

HUB = "hf://datasets/"
ATTEMPTS = 5  # restarts of a download from a server that does not support ranges


@dataclass(frozen=True)
class Archive:
    """Archive of a published dataset.

    Args:
        url: Address; `hf://datasets/OWNER/NAME/FILE` for a dataset of the Hugging Face hub, downloaded with the user's login.
        unpacked: Largest size of the unpacked content in bytes.
        sha256: Published checksum; None for the hub, which provides it.
    """

    url: str
    unpacked: int
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def dataset(self) -> str:
        """`OWNER/NAME` on the hub; empty for other addresses."""
        return self.url.removeprefix(HUB).rsplit("/", 1)[0] if self.url.startswith(HUB) else ""

    def request(self) -> tuple[str, dict[str, str]]:
        """Return address and headers of the request; no compression, as length and checksum are those of the stored file."""
        from huggingface_hub import get_token, hf_hub_url  # imported only for a download
        from huggingface_hub.utils import build_hf_headers

        headers = {"Accept-Encoding": "identity"}
        if not self.dataset:
            return self.url, headers
        return hf_hub_url(self.dataset, self.name, repo_type="dataset"), build_hf_headers(token=get_token()) | headers

    def size_and_checksum(self) -> tuple[int | None, str | None]:
        """Return the size in bytes and the SHA-256 of the file, each None if unknown."""
        from huggingface_hub import get_hf_file_metadata
        from huggingface_hub.utils import hf_raise_for_status, http_backoff

        url, headers = self.request()
        if self.dataset:
            metadata = get_hf_file_metadata(url, headers=headers, retry_on_errors=True)
            return metadata.size, metadata.etag
        response = http_backoff("HEAD", url, headers=headers)
        hf_raise_for_status(response)
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None, self.sha256


class FetchedDataModule(AudioDataModule):
    """Data module of a dataset that is published as an archive.

    Args:
        root: Folder of the dataset.
        download: Download the dataset to `root` if it is missing.
        kwargs: Settings of every dataset, see `AudioDataModule`.
    """

    archive: Archive

    def __init__(self, root: Path, download: bool = False, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.download = download

    @staticmethod
    @abstractmethod
    def holds_data(folder: Path) -> bool:
        """Return whether a folder contains the dataset."""

    def fetch(self) -> None:
        """Download the dataset if `download` is set and it is missing.

        Raises:
            UserError: the download failed; what arrived is kept for the next attempt.
        """
        root, archive = self.root.resolve(), self.archive
        work = root.with_name(f"{root.name}.download")
        if not self.download or (self.holds_data(root) and not (work / "lock").exists()):
            return
        try:
            with _sole_worker(work):
                if not self.holds_data(root):
                    self._fetch(root, work / archive.name, work / "unpacked")
                shutil.rmtree(work / "unpacked", ignore_errors=True)
                (work / archive.name).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{work}: {archive.name} cannot be unpacked or written there: {error.strerror or error}") from error

    def _fetch(self, root: Path, path: Path, unpacked: Path) -> None:
        if root.exists() and any(root.iterdir()):
            raise UserError(f"{root}: holds other files than the dataset; empty it, or name another folder with --data.root")
        if unpacked.exists():
            shutil.rmtree(unpacked)
        if path.exists():  # renamed to this only after its checksum was verified
            _check_space(path.parent, 0, self.archive.unpacked)
        else:
            _download(self.archive, path)
        try:
            unpack(path, unpacked, self.archive.unpacked)
        except UserError as error:
            raise UserError(f"{error}; remove that file to fetch it anew") from error
        folders = (folder for folder in (unpacked, *sorted(unpacked.iterdir())) if folder.is_dir())
        home = next(filter(self.holds_data, folders), None)
        if home is None:
            raise UserError(f"{path}: does not have the expected files; unpack it by hand, and name its folder with --data.root")
        os.sync()  # flush, so that a power cut cannot leave files without content
        home.replace(root)


def _download(archive: Archive, path: Path) -> None:
    """Download to `PATH.part`, resuming it if it exists, and rename it to `path` if its checksum is right."""
    from huggingface_hub.file_download import http_get

    part = path.with_name(f"{path.name}.part")
    with _told(archive):
        size, checksum = archive.size_and_checksum()
        if size is None or len(checksum or "") != 64:
            raise UserError(f"{archive.url}: its server does not report its length or SHA-256")
        there = part.stat().st_size if part.exists() else 0
        if there > size:
            part.unlink()
            there = 0
        _check_space(path.parent, size - there, archive.unpacked)
        url, headers = archive.request()
        with _Part(part, url, size) as file:
            if there < size:
                http_get(url, file, resume_size=there, headers=headers, displayed_filename=archive.name)
    with progress.open(part, "rb", description="Checking", transient=True) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checksum:
        part.unlink()
        raise UserError(f"{part}: its SHA-256 is {found}, published is {checksum}; the file was removed: fetch it again")
    part.replace(path)


class _Part(io.BufferedWriter):
    """File opened for appending that rejects more bytes than declared and more than `ATTEMPTS` restarts."""

    def __init__(self, path: Path, url: str, size: int) -> None:
        super().__init__(io.FileIO(path, "a"))
        self.url, self.size, self.begun_anew = url, size, 0

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > self.size:
            raise UserError(f"{self.url}: its server sends more than the {self.size} bytes it declared")
        return super().write(content)

    def truncate(self, size: int | None = None) -> int:
        self.begun_anew += 1
        if self.begun_anew > ATTEMPTS:
            raise UserError(f"{self.url}: could not be downloaded: its server closes the connection, and cannot resume")
        return super().truncate(size)


@contextmanager
def _told(archive: Archive) -> Iterator[None]:
    """Convert errors of the server or the network to UserError."""
    from huggingface_hub.errors import GatedRepoError, HTTPError

    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"{archive.dataset}: this dataset is gated: accept its terms at https://huggingface.co/datasets/{archive.dataset}, log in with "
            "`hf auth login` (or set HF_TOKEN), and try again"
        ) from error
    except (HTTPError, ConnectionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{archive.url}: could not be downloaded; what has arrived is kept, try again to go on: {reason}") from error


def _check_space(folder: Path, archive: int, unpacked: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < archive + unpacked:
        raise UserError(
            f"{folder}: the disk has too little space: {(archive + unpacked) / 1e9:.2f} GB are needed ({archive / 1e9:.2f} GB to download, "
            f"{unpacked / 1e9:.2f} GB unpacked), {free / 1e9:.2f} GB are free; name a folder on another one with --data.root"
        )


@contextmanager
def _sole_worker(work: Path) -> Iterator[None]:
    """Lock the download folder, waiting for other processes; on exit, remove it if it is empty."""
    lock, waiting = work / "lock", partial(rank_zero_info, f"Waiting for another process that fetches to {work}")
    with ExitStack() as held:
        while True:
            work.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(sole_process(lock, taken=waiting))
                break
            except FileNotFoundError:
                continue  # the process waited for has finished and removed the folder
        try:
            yield
        finally:
            if set(work.iterdir()) <= {lock}:
                lock.unlink(missing_ok=True)
                with suppress(OSError):  # another process has created its lock
                    work.rmdir()
