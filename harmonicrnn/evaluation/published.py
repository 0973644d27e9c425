"""Published results, and reasons why they are not comparable with a measurement."""

from dataclasses import dataclass, field, replace

from harmonicrnn.audio.dataset import Dataset, Split

MAMBA = "https://arxiv.org/abs/2312.00752"
SASHIMI = "https://arxiv.org/abs/2202.09729"
COMPARED = (
    "published NLL is a mean over batches that leaves out the last one, ours an exact mean over all samples: the third decimal differs"
)

REFERENCE = (
    "published FID and AM refer to features of the training split's recordings as they are, ours to those of the quantised clips that "
    "models are given: the values differ a little even under one protocol"
)


@dataclass(frozen=True)
class Published:
    """A row of a table: values by measure, its source, and by measure the reasons why it is not comparable."""

    model: str
    parameters: str
    values: dict[str, float]
    source: str
    reasons: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """The settings that a dataset's rows were measured under; test_clips and test_recordings are None if not published.

    clip_samples: of the rows; a row with another length says so in its model's name.
    """

    law: str
    clip_samples: int
    test_clips: int | None
    rows: tuple[Published, ...]
    bits: int = 8
    scaling: str = "clip"
    sample_rate: int = 16_000


def _sc09(
    model: str, parameters: str, source: str, nll: float | None, fid: float, inception: float, modified: float, am: float
) -> Published:
    values = {} if nll is None else {"NLL": nll}
    return Published(model, parameters, values | {"FID": fid, "IS (tables)": inception, "mIS": modified, "AM": am}, source)


PROTOCOLS = {
    "SC09": Protocol(
        "mu-law",
        16_000,
        4107,  # digits in the testing list of Speech Commands v0.02
        (
            _sc09("SampleRNN", "35.0M", SASHIMI, 2.042, 8.96, 1.71, 3.02, 1.76),
            _sc09("WaveNet", "4.2M", SASHIMI, 1.925, 5.08, 2.27, 5.80, 1.47),
            _sc09("SaShiMi", "5.8M", MAMBA, 1.873, 1.99, 5.13, 42.57, 0.74),
            _sc09("Mamba U-Net", "6.1M", MAMBA, 1.852, 0.94, 6.26, 88.54, 0.52),
            _sc09("Mamba U-Net", "24.3M", MAMBA, 1.860, 0.67, 7.33, 144.9, 0.36),
            _sc09("training data", "", MAMBA, None, 0.00, 8.56, 292.5, 0.16),
            _sc09("test data", "", MAMBA, None, 0.02, 8.33, 257.6, 0.19),
        ),
    ),
    "Beethoven": Protocol(
        "linear",
        128_000,
        None,
        (
            Published("SampleRNN", "", {"NLL": 1.076}, SASHIMI),
            Published("WaveNet", "", {"NLL": 1.464}, SASHIMI),
            Published("SaShiMi", "", {"NLL": 0.946}, SASHIMI),
        ),
    ),
    "YouTubeMix": Protocol(
        "mu-law",
        131_072,
        105,  # 15 recordings of a minute, their tails dropped
        (
            Published("SampleRNN", "", {"NLL": 1.723}, SASHIMI),
            Published("WaveNet", "", {"NLL": 1.449}, SASHIMI),
            Published("SaShiMi", "", {"NLL": 1.294}, SASHIMI),
        ),
    ),
}


def published_rows(data: Dataset | None, split: Split | None, shown: set[str], classified: list[str]) -> list[Published]:
    """Returns the published rows of the data's dataset for the measures shown.

    Args:
        data: measured dataset; None for folders.
        split: measured split.
        shown: names of the report's measures; NLL, FID, IS (tables), mIS and AM are published.
        classified: reasons why classifier measures are not comparable, beside the data's settings; empty if they are.

    Returns:
        the rows with their reasons; no reasons for a comparable measure.
    """
    protocol = PROTOCOLS.get(type(data).__name__)
    if data is None or protocol is None or split is None:
        return []
    differences, of_scores = _differences(data, split, protocol), [*_of_audio(data, protocol), *classified]
    rows = []
    for row in protocol.rows:
        values = {name: value for name, value in row.values.items() if name in shown}
        if values:
            reasons = {name: differences if name == "NLL" else of_scores for name in values}
            rows.append(replace(row, values=values, reasons=reasons))
    return rows


def _differences(data: Dataset, split: Split, protocol: Protocol) -> list[str]:
    """Returns the differences from the protocol, in words."""
    found = [] if split == "test" else [f"published on the test split, not {split}"]
    found += _of_audio(data, protocol)
    if data.eval_context != "clip":
        found.append(f"context clip there, {data.eval_context} here")
    if split == "test" and not found and protocol.test_clips not in (None, data.clip_count(split)):
        found.append(f"{protocol.test_clips} test clips there, {data.clip_count(split)} here")
    return found


def _of_audio(data: Dataset, protocol: Protocol) -> list[str]:
    """Returns the differences in the models' input and output audio, in words."""
    found = []
    for name, ours, theirs in (
        ("quantiser", f"{data.quantiser.law} {data.bits} bit", f"{protocol.law} {protocol.bits} bit"),
        ("scaling", data.scaling, protocol.scaling),
        ("sample rate", data.sample_rate, protocol.sample_rate),
        ("clip length", data.clip_samples, protocol.clip_samples),
    ):
        if ours != theirs:
            found.append(f"{name} {theirs} there, {ours} here")
    return found
