"""LogMel, an embedding without weights."""

import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from harmonicrnn.metrics.embedder import Embedder

BANDS = 32
FRAME_SECONDS = 0.064
WINDOW_SECONDS = 1.0
FLOOR = 1e-6  # added to the power in each band, for full scale 1


class LogMel(Embedder):
    """Mean and standard deviation of 32 log-mel bands over windows of about 1 s: d = 64.

    Distances are only comparable at the same rate: the bands reach up to half of it.

    Args:
        rate: of the audio in Hz.
    """

    def __init__(self, rate: int) -> None:
        self.name, self.rate, self.dimensions = "logmel", rate, 2 * BANDS
        self.weights: dict[str, str] = {}
        self.frame = max(64, 2 ** round(torch.tensor(FRAME_SECONDS * rate).log2().item()))
        hop = self.frame // 4
        self.window = max(1, round(WINDOW_SECONDS * rate / hop))
        self._mel = MelSpectrogram(rate, self.frame, hop_length=hop, n_mels=BANDS, center=False, normalized=True)

    @torch.no_grad()
    def embed(self, batch: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(batch, (0, max(0, self.frame - batch.shape[1])))
        bands = (self._mel(padded) + FLOOR).log().transpose(1, 2)
        windows = list(bands.split(self.window, dim=1))
        # Drop a last window that is less than half full.
        if len(windows) > 1 and 2 * windows[-1].shape[1] < self.window:
            windows.pop()
        return torch.stack([torch.cat([part.mean(dim=1), part.std(dim=1, correction=0)], dim=1) for part in windows], dim=1)
