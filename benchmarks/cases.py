"""What is streamed: models of our own and the real ones that stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir

from models import chain, conformer, crn, depthwise, hifigan, wavenet
from models.real import CASES, Case, available, path_of
from pulsify.adapt import adapt
from pulsify.source import read
from pulsify.stages.load import AxisSpec

__all__ = ["MORE", "OWN", "Entry", "entries"]


@dataclass(frozen=True)
class Entry:
    """One batch model, its time axis, a pulse that is legal for it, and what it is converted for."""

    name: str
    batch: Callable[[], onnx.ModelProto | Path]
    axis: tuple[str, ...] = ("S",)
    legal: int = 1
    target: str = "onnx"


#: Behind a name: converted for onnxruntime where it runs natively.
NATIVE = "/native"

OWN = (
    Entry("wavenet", wavenet.build),
    Entry("chain-64", chain.build),
    Entry("chain-128", partial(chain.build, 128)),
    Entry("crn", crn.build),
    Entry("crn-ahead", partial(crn.build, True)),
    Entry("hifigan", hifigan.build),
    Entry("conformer", conformer.build),
    Entry("conformer-rms", partial(conformer.build, rms=True)),
)

#: What the table leaves out: several recordings at a time, and depthwise convolutions.
MORE = (
    Entry("wavenet-batch", partial(wavenet.build, batch=True)),
    Entry("tcn", depthwise.tcn),
    Entry("tcn-batch", partial(depthwise.tcn, batch="N")),
)


def _batch(case: Case) -> onnx.ModelProto | Path:
    """The batch model as all contenders get it: what only we can do on the way, such as --unbake, is done before."""
    path = path_of(case)
    return ir.to_proto(adapt(read(path), case.changes, AxisSpec.parse(case.along)).model) if case.unbake else path


def _real() -> Iterator[Entry]:
    seen = set()
    for case in CASES:
        if case.streams and not case.carry and case.name not in seen and not available(case):
            seen.add(case.name)
            yield Entry(case.name, partial(_batch, case), tuple(case.along), case.by)


def entries(names: Sequence[str] = (), real: bool = True) -> list[Entry]:
    """The entries of those names, "/native" behind them or not, or all of the table. ValueError on an unknown name."""
    known = {e.name: e for e in (*OWN, *MORE, *_real())}
    unknown = [n for n in names if n.removesuffix(NATIVE) not in known]
    if unknown:
        raise ValueError(f"no model {', '.join(unknown)}; there are {', '.join(known)}")
    found = ((n, known[n.removesuffix(NATIVE)]) for n in names)
    chosen = [replace(e, name=n, target="onnxruntime-native") if n.endswith(NATIVE) else e for n, e in found]
    return chosen if names else [*OWN, *(_real() if real else ())]
