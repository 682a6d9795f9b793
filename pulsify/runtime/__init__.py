"""Streaming clients on onnxruntime, written against the contract alone (docs/contract.md).

Needs numpy and onnxruntime, nothing else: this folder, ``contract.py``, ``errors.py`` and the package's ``__init__.py``
stream by themselves, under any package name (imports are relative for that reason).

``model`` is what a pulsed file says, ``bound`` runs pulses in memory bound once, ``intake`` checks chunks, ``stream``
keeps account of one stream, ``saved`` writes one down; ``session`` and ``batch`` are the two clients, ``client`` is what
they share and ``compact`` a batch seen by rows.
"""

from .batch import StreamBatch
from .model import open_session
from .session import StreamSession

__all__ = ["StreamBatch", "StreamSession", "open_session"]
