"""Turn a batch ONNX model with a symbolic time axis into a streaming (pulsed) ONNX model, and prove it.

``convert`` makes a pulsed model, ``StreamSession`` runs one, ``StreamBatch`` runs many streams at a time. Names are
imported when first used, so that importing the package costs nothing and streaming does not import the compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulsify.api import Conversion, convert
    from pulsify.errors import (
        ClientError,
        InternalError,
        ModelError,
        PulsifyError,
        Refusal,
        UsageError,
        VerificationError,
    )
    from pulsify.runtime import StreamBatch, StreamSession

__version__ = "0.1.0"

__all__ = [
    "ClientError",
    "Conversion",
    "InternalError",
    "ModelError",
    "PulsifyError",
    "Refusal",
    "StreamBatch",
    "StreamSession",
    "UsageError",
    "VerificationError",
    "__version__",
    "convert",
]

_HOME = {"Conversion": "api", "convert": "api", "StreamBatch": "runtime", "StreamSession": "runtime"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
