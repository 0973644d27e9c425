"""Writes the model card of a voice: README.md with the front matter that the Hugging Face Hub reads."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harmonicrnn.errors import UserError

UNKNOWN = "unknown"  # the Hub's identifier of an unknown licence

TEXT = """\
---
library_name: harmonicrnn
license: {license}
pipeline_tag: text-to-audio
tags:
- audio
- audio-generation
- autoregressive
- raw-audio
- harmonicrnn
---

# {name}

A model of raw audio that draws one sample after the other: {kind} with {parameters:,} parameters, mono, {sample_rate:,} Hz,
{bits}-bit {law}. It takes no text: it begins from silence, or continues a recording. The weights are plain tensors in `model.safetensors`;
loading runs no code.

## Listen

{clips}
With HarmonicRNN installed:

```bash
harmonicrnn generate --voice FOLDER --seconds 10
```

```python
from harmonicrnn import Voice, load

voice = load("FOLDER")  # this folder; of the Hub: Voice.from_pretrained("OWNER/NAME")
audio = voice.generate(10.0)  # (1, T) float32 in [-1, 1], at voice.sample_rate
```

By default it is sampled at temperature {temperature:g}.

## Sources and licences

Licence of the weights: {license}.

{sources}

Data settings: {data}.

## Intended use

To make and to study audio of the kind that it was trained on, to continue recordings, and to begin other trainings from. What it draws can
resemble recordings it was trained on, whose licence may then concern it. It is not meant to imitate people.

## Likelihood

{likelihood}

## How it was made

{made}
"""


def card(name: str, config: dict[str, Any], clips: Sequence[str]) -> str:
    """Returns the text of README.md.

    Args:
        name: of the voice.
        config: the content of its config.json.
        clips: names of the audio files beside it.
    """
    about, quantiser = config["about"], config["quantiser"]
    return TEXT.format(
        name=name,
        license=about.get("license", UNKNOWN),
        kind=config["model"]["class"],
        parameters=config["parameters"],
        sample_rate=config["sample_rate"],
        bits=quantiser["bits"],
        temperature=about.get("temperature", 1),
        law=quantiser["law"],
        clips="".join(f"- [{clip}]({clip})\n" for clip in clips),
        sources=about.get("sources") or "Not stated.",
        data=", ".join(f"{key} {value}" for key, value in about.get("data", {}).items()) or "not known",
        likelihood="\n\n".join(map(_likelihood, about.get("likelihood", []))) or "Not measured.",
        made="\n\n".join(_made(about, config["saved_with"])),
    )


def check_about(about: dict[str, Any], file: Path, advice: str) -> None:
    """Raises UserError, naming the file and the key, where the facts of a voice are not of the form that the card needs.

    Args:
        about: the facts by their names; those that the card does not show may be any JSON.
        file: where they were read, for the message.
        advice: what to do, for the message.
    """
    for key, (wanted, form) in FACTS.items():
        if key in about and not _fits(about[key], form):
            raise UserError(f"{file}: about.{key}: wanted {wanted}, found {repr(about[key])[:80]}: {advice}")
    try:
        json.dumps(about, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: about: wanted Unicode text and finite numbers ({error}): {advice}") from error


def _fits(value: Any, form: Any) -> bool:
    """Returns whether a value is of a type, passes a test, or is a list or has entries of such forms."""
    if isinstance(form, list):
        return isinstance(value, list) and all(_fits(each, form[0]) for each in value)
    if isinstance(form, dict):
        return isinstance(value, dict) and all(_fits(value.get(key), each) for key, each in form.items())
    return isinstance(value, form) if isinstance(form, type) else form(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= sys.float_info.max


def _is_license(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", value) is not None


def _is_provenance(value: Any) -> bool:
    if not (isinstance(value, dict) and isinstance(value.get("command"), str | None)):
        return False
    return value.get("libraries") is None or _fits(value, {"code": str, "python": str, "libraries": dict})


MEASURED = {"bits_per_sample": _is_number}
FACTS: dict[str, tuple[str, Any]] = {
    "license": ("the Hub's identifier of a licence", _is_license),
    "sources": ("text", str),
    "data": ("settings by their names", dict),
    "init_from": ("text", str),
    "steps": ("a whole number of 0 or more", _is_count),
    "temperature": ("a number of 0 or more", _is_number),
    "trained_with": ("command, code, python and libraries", _is_provenance),
    "likelihood": (
        "a list of split, samples, bits_per_sample, protocol and untrained",
        [MEASURED | {"split": str, "samples": _is_count, "protocol": str, "untrained": [MEASURED | {"name": str}]}],
    ),
}
"""What the card shows of a voice's `about`: what each fact must be, in words and as a form of `_fits`."""


def check_license(name: str) -> str:
    """Raises UserError where a licence is no identifier as the Hub has them."""
    if not _is_license(name):
        raise UserError(f"license {name!r}: give the Hub's identifier of a licence, such as cc0-1.0, cc-by-sa-3.0, gpl-2.0 or {UNKNOWN}")
    return name


def _likelihood(measured: dict[str, Any]) -> str:
    rows = [("this voice", measured["bits_per_sample"]), *((each["name"], each["bits_per_sample"]) for each in measured["untrained"])]
    lines = [f"| {measured['split']} split, {measured['samples']:,} samples | bits/sample |", "|---|---|"]
    lines += [f"| {name if i == 0 else f'without training: {name}'} | {bits:.4f} |" for i, (name, bits) in enumerate(rows)]
    return "\n".join([*lines, "", f"{measured['protocol']}."])


def _made(about: dict[str, Any], saved_with: dict[str, Any]) -> list[str]:
    trained = about.get("trained_with", {})
    parts = [f"```bash\n{trained['command']}\n```"] if trained.get("command") else ["The command of its training was not kept."]
    if about.get("init_from"):
        parts.append(f"Its training began with the weights of {about['init_from']}.")
    if about.get("steps"):
        parts.append(f"{about['steps']:,} steps.")
    for what, versions in (("Trained", trained), ("Saved", saved_with)):
        if versions.get("libraries"):
            libraries = ", ".join(f"{name} {version}" for name, version in versions["libraries"].items())
            parts.append(f"{what} with harmonicrnn {versions['code']}, Python {versions['python']}, {libraries}.")
    return parts
