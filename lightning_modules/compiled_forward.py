"""Forward pass by torch.compile, checked at first use, with a fallback to the plain forward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from harmonicrnn.models import AutoregressiveNet, DropoutPlace, ModelState, sample_nats
from harmonicrnn.models.dropout import Dropout, at_place
from harmonicrnn.ops.first_use import warn

Compile = bool | Literal["auto"]
Forward = Callable[[Tensor, ModelState | None, Tensor | None], tuple[Tensor, ModelState]]

BACKEND = "inductor"
MORE = "Set TORCHDYNAMO_VERBOSE"  # start of the hints at the end of torch's errors
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Largest ||a - b|| / ||b|| of the logits and of each gradient, by the logits' dtype; for gradients, ||b|| is at least 1e-3 of the norm of
all gradients."""
LIMIT_IN_16_BITS = 0.1
WINDOWS = 2  # pooling windows of the check, at least 16 samples


class CompiledForward:
    """Compute `net(classes, state, before)` by torch.compile.

    Compiled for the first shape of training and of validation, with and without a state; other shapes, such as an epoch's last batch, use
    the plain forward pass. After any failure other than a lack of memory, a warning is given and the plain forward pass is used. It is not
    a module, so that the names of weights do not change; copies compile again.
    """

    def __init__(self, net: AutoregressiveNet) -> None:
        self.net = net
        self._compiled: Forward | None = None
        self._shapes: dict[tuple[bool, ...], torch.Size] = {}
        self._failed = False

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledForward, (self.net,)

    def __call__(self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None) -> tuple[Tensor, ModelState]:
        case = self.net.training, torch.is_grad_enabled(), state is None
        if not self._failed and self._shapes.setdefault(case, classes.shape) == classes.shape:
            try:
                if self._compiled is None:
                    self._compiled = self._tried(classes)
                if not self._failed:
                    return self._compiled(classes, state, before)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # any compiler error; errors of the input are raised again below
                self._give_up(classes.device, f"fails: {type(error).__name__}: {' '.join(str(error).split(MORE)[0].split())}")
        return self.net(classes, state, before)  # type: ignore[no-any-return]

    def nats(
        self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None, heard: Tensor | None = None
    ) -> tuple[Tensor, ModelState]:
        """See `AutoregressiveNet.nats`."""
        logits, known = self(classes if heard is None else heard, state, before)
        return sample_nats(logits, classes), known

    def _tried(self, classes: Tensor) -> Forward:
        compiled: Forward = torch.compile(self.net.forward, backend=BACKEND, fullgraph=True, dynamic=False)
        samples = max(WINDOWS, -(-16 // self.net.pooling_product)) * self.net.pooling_product
        with torch.inference_mode(False), torch.enable_grad(), self._first_lane():
            few = classes[:1, :1].clone().expand(1, samples) if classes.shape[1] < samples else classes[:1, :samples].clone()
            found, expected = (self._outcome(forward, few) for forward in (compiled, self.net))
        if why := difference(found, expected):
            self._give_up(classes.device, why)
        return compiled

    def _outcome(self, forward: Any, classes: Tensor) -> list[Tensor]:
        """Return the logits and the gradients of all parameters."""
        logits, _ = forward(classes, None, None)
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(sample_nats(logits, classes).mean(), parameters, allow_unused=True, materialize_grads=True)
        return [logits.detach(), *gradients]

    @contextmanager
    def _first_lane(self) -> Iterator[None]:
        """Use the dropout masks of the first lane of a batch."""
        place = next((layer.place for layer in self.net.modules() if isinstance(layer, Dropout)), None)
        with at_place(self.net, place and DropoutPlace(place.keys, place.clips[:1], place.start[:1])):
            yield

    def _give_up(self, device: torch.device, why: str) -> None:
        self._failed = True
        warn("the compiled model", why, device, "the plain forward pass is used, as with model.compile false")


def difference(found: list[Tensor], expected: list[Tensor]) -> str | None:
    """Return a message if the logits or a gradient exceed the limit or are NaN; else None."""
    limit = LIMITS.get(expected[0].dtype, LIMIT_IN_16_BITS)
    norms = [reference.double().norm() for reference in expected]
    least = 1e-3 * torch.stack(norms[1:]).norm()
    for i, (value, reference, norm) in enumerate(zip(found, expected, norms, strict=True)):
        error = ((value.double() - reference.double()).norm() / (norm.clamp(min=least) if i else norm)).item()
        if not error <= limit:
            what = f"gradient {i} of {len(norms) - 1} differs" if i else "logits differ"
            return f"is wrong: {what} from the plain model's by {error:.1e}, allowed {limit:g}"
    return None
