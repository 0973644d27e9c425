"""UserError, the error that is shown to the user as its message alone, without a traceback, and checks of arguments that raise it."""

from collections.abc import Sequence
from numbers import Integral

MIN_BITS, MAX_BITS = 4, 12


class UserError(ValueError):
    """An error in the user's data, configuration or files; the message says what, where, and what to do."""


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raises UserError if an argument is none of its choices."""
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def check_whole(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raises UserError if an argument is no whole number (of any integer type but bool) from `least` to `most`, None for no limit."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UserError(f"{name} must be a whole number, got {value!r}")
    if value < least or (most is not None and value > most):
        bounds = f"between {least} and {most}" if most is not None else f"at least {least}" if least else "0 or more"
        raise UserError(f"{name} must be {bounds}, got {value}")


def check_bits(name: str, bits: int) -> None:
    """Raises UserError if the bits per sample are no whole number from 4 to 12."""
    check_whole(name, bits, MIN_BITS, MAX_BITS)
