"""Where archives of datasets come from: the open web, or the Hugging Face hub with the user's own login."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

from harmonicrnn.errors import UserError

PIECE = 1 << 16  # what arrives of a piece that is cut off is lost
PATIENCE = Retry(5, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces


@dataclass(frozen=True)
class WebArchive:
    """An archive at a URL.

    Args:
        url: Its address.
        sha256: Its published checksum.
        unpacked: The most bytes its content may have.
    """

    url: str
    sha256: str
    unpacked: int

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def describe(self) -> tuple[int, str]:
        with self._session() as session, session.head(self.url, allow_redirects=True, timeout=TIMEOUT) as response:
            self._expect(response, HTTPStatus.OK)
            length = response.headers.get("Content-Length", "")
        if not length.isdigit():
            raise UserError(f"{self.url}: its server does not tell its length")
        return int(length), self.sha256

    def arrived(self, work: Path) -> Path:
        return work / f"{self.name}.part"

    def get(self, work: Path, size: int) -> None:
        part = self.arrived(work)
        part.touch()
        if part.stat().st_size > size:
            part.unlink()
            part.touch()
        columns = (TextColumn("Downloading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        patience = PATIENCE
        with self._session() as session, Progress(*columns, transient=True) as progress:
            task = progress.add_task("", total=size)
            while (there := part.stat().st_size) < size:
                headers = {"Range": f"bytes={there}-"}
                with session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                    self._expect(response, HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
                    goes_on = response.status_code == HTTPStatus.PARTIAL_CONTENT
                    if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
                        raise UserError(f"{self.url}: its server sends another part than the one that was asked for")
                    cut = None
                    try:
                        with part.open("ab" if goes_on else "wb") as out:
                            for piece in response.iter_content(PIECE):
                                if out.tell() + len(piece) > size:
                                    raise UserError(f"{self.url}: its server sends more than the {size} bytes it declared")
                                out.write(piece)
                                progress.update(task, completed=out.tell())
                    except requests.RequestException as error:
                        cut = error
                if part.stat().st_size < size:
                    # What arrived counts, and as long as some arrives there is no reason to give up.
                    patience = (PATIENCE if part.stat().st_size > there else patience).increment(error=cut)
                    patience.sleep()

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        try:
            with requests.Session() as session:
                for scheme in ("http://", "https://"):
                    session.mount(scheme, HTTPAdapter(max_retries=PATIENCE))
                # As stored: the length and the checksum are those of the file itself.
                session.headers["Accept-Encoding"] = "identity"
                yield session
        except (requests.RequestException, MaxRetryError) as error:
            reason = error.reason if isinstance(error, MaxRetryError) else error
            raise UserError(f"{self.url}: could not be downloaded; what has arrived is kept, try again to go on: {reason}") from error

    def _expect(self, response: requests.Response, *statuses: HTTPStatus) -> None:
        if response.status_code not in statuses:
            raise UserError(f"{self.url}: could not be downloaded: its server says {response.status_code} {response.reason}")


@dataclass(frozen=True)
class HubArchive:
    """An archive in a gated dataset of the Hugging Face hub.

    Args:
        dataset: Its name, `owner/name`.
        name: Of the file in it.
        unpacked: The most bytes its content may have.
    """

    dataset: str
    name: str
    unpacked: int

    def describe(self) -> tuple[int, str]:
        from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url  # imported where the user asked for it

        with self._told():
            metadata = get_hf_file_metadata(hf_hub_url(self.dataset, self.name, repo_type="dataset"), token=get_token())
        if metadata.size is None or len(metadata.etag or "") != 64:
            raise UserError(f"{self.dataset}: the hub does not tell the length and SHA-256 of {self.name}")
        return metadata.size, metadata.etag

    def arrived(self, work: Path) -> Path:
        return work / "hub" / self.name

    def get(self, work: Path, size: int) -> None:
        """The hub's own library goes on where it stopped."""
        from huggingface_hub import get_token, hf_hub_download

        with self._told():
            hf_hub_download(self.dataset, self.name, repo_type="dataset", local_dir=work / "hub", token=get_token())

    @contextmanager
    def _told(self) -> Iterator[None]:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HTTPError

        page = f"https://huggingface.co/datasets/{self.dataset}"
        try:
            yield
        except GatedRepoError as error:
            raise UserError(
                f"{self.dataset}: this dataset is gated: accept its terms at {page}, log in with `hf auth login` (or set HF_TOKEN), "
                "and try again"
            ) from error
        except (HfHubHTTPError, HTTPError, ConnectionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{page}: {self.name} could not be downloaded; try again to go on: {reason}") from error
