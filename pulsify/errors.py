"""Everything a user can be told.

Every failure has one shape: a headline, then ``why`` (the reason, with numbers), ``wire`` (what arrives there) and
``try`` (what to do about it). The exit codes are the command line's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ClientError",
    "InternalError",
    "ModelError",
    "PulsifyError",
    "Refusal",
    "UsageError",
    "VerificationError",
    "internal",
]


class PulsifyError(Exception):
    """A message for the user: ``what`` in one line, then why, where and what to try."""

    exit_code = 70

    def __init__(self, what: str, *, why: str = "", wire: str = "", hint: str | Sequence[str] = ""):
        self.what, self.why, self.wire = what, why, wire
        self.hints = [hint] if isinstance(hint, str) else list(hint)
        super().__init__(self.render())

    def render(self) -> str:
        """The message as printed: one headline, then one line a field."""
        rows = [("why", self.why), ("wire", self.wire), *(("try", h) for h in self.hints)]
        return "\n".join([self.what, *(f"  {key + ':':<5} {text}" for key, text in rows if text)])

    def as_dict(self) -> dict[str, object]:
        """The message for machines (``--report``)."""
        return {
            "kind": type(self).__name__,
            "exit_code": self.exit_code,
            "what": self.what,
            "why": self.why,
            "wire": self.wire,
            "try": [h for h in self.hints if h],
        }


class UsageError(PulsifyError):
    """The request makes no sense for this model: no such axis, a pulse of 0, an unwritable output."""

    exit_code = 2


@dataclass(frozen=True)
class Repair:
    """What to do to a ``node``: a ``Reshape`` gets the target ``values``, or becomes a ``Transpose`` with that permutation; a
    ``Squeeze`` gets those axes; of a ``Slice``, end number ``values[0]`` becomes ``values[1]``."""

    node: str
    op: str
    values: tuple[int, ...]


class Refusal(PulsifyError):
    """The model cannot be pulsified as asked. Names the node, the axis, the reason and the remedy.

    ``repair`` is what would cure a Reshape that has the length of time baked in, or a Squeeze that names no axes; ``baked`` tells
    that a stream met a fixed number of frames.
    """

    exit_code = 3
    repair: Repair | None = None
    baked: bool = False


class VerificationError(PulsifyError):
    """The pulsed model disagrees with the batch model. Nothing was written."""

    exit_code = 4


class ModelError(PulsifyError):
    """The model file is unreadable or invalid."""

    exit_code = 5


class ClientError(PulsifyError):
    """A streaming client was fed something it cannot take: wrong name, shape, dtype or order of calls."""

    exit_code = 2


class InternalError(PulsifyError):
    """A promise of the compiler does not hold. Our fault, never the user's. ``stage`` is the one that failed."""

    exit_code = 70
    stage: str | None = None


def internal(what: str, e: BaseException) -> InternalError:
    """An unexpected exception as a message that says whose fault it is."""
    first = (str(e).strip().splitlines() or [""])[0]
    return InternalError(
        what,
        why=f"{type(e).__name__}: {first}",
        hint="this is a bug of pulsify, not of your model; please report it with the model",
    )
