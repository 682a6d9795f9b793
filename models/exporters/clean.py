"""What an exporter leaves in a file and a fixture does not need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

__all__ = ["strip"]


def messages(m: Any) -> Iterator[Any]:
    """The message and all messages inside."""
    yield m
    for field, value in m.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without stack traces, documentation and other notes of the exporter; graph and names are kept."""
    for m in messages(model):
        for name in ("metadata_props", "doc_string"):
            if name in m.DESCRIPTOR.fields_by_name:
                m.ClearField(name)
    return model
