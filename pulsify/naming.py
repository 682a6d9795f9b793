"""Names and metadata after the conventions of others; the manifest tells every client what they are.

The default is the contract's: states ``past_<id>`` and ``present_<id>``, and no metadata but the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pulsify import contract
from pulsify.errors import UsageError
from pulsify.graph import Graph, name_bodies

__all__ = ["DEFAULT", "PRESETS", "Naming"]

DEFAULT = "past_{id}/present_{id}"

#: What the streaming clients of sherpa-onnx read of a model: how many frames go in per call and by how many the next call
#: is further on, under the names of its Zipformer and LSTM models and of its NeMo models. A pulsed model keeps what it
#: still needs, so the two are the same.
PRESETS = {"sherpa-onnx": dict.fromkeys(("T", "decode_chunk_len", "window_size", "chunk_shift"), "{pulse}")}

_EXAMPLES = (DEFAULT, "cached_{id}/new_cached_{id}", "{id}/{id}_out")


@dataclass(frozen=True)
class Naming:
    """Templates of the names of a state's input and output, and metadata to write beside the manifest.

    ``{id}`` stands for the id of a state, in metadata ``{pulse}`` for the pulse and ``{states}`` for the number of states.
    """

    past: str = "past_{id}"
    present: str = "present_{id}"
    metadata: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def parse(state_names: str = DEFAULT, metadata: Sequence[str] = ()) -> Naming:
        """From ``"past_{id}/present_{id}"``, and ``"key=value"`` or the name of one of PRESETS. UsageError."""
        parts = state_names.split("/")
        if len(parts) != 2 or any(p.count("{id}") != 1 or re.search(r"[{}\s]", p.replace("{id}", "")) for p in parts):
            raise UsageError(
                f"--state-names {state_names}",
                why="it takes the name of a state's input and of its output, each with one {id}, with a / between them",
                hint=f"for example {', '.join(_EXAMPLES)}",
            )
        if parts[0] == parts[1]:
            raise UsageError(
                f"--state-names {state_names}",
                why="the input and the output of a state would have the same name",
                hint="{id}/{id}_out",
            )
        entries: dict[str, str] = {}
        for text in metadata:
            key, found, value = text.partition("=")
            if not found and text in PRESETS:
                entries.update(PRESETS[text])
            elif not found or not key:
                raise UsageError(f"--metadata {text}", why=f"it takes KEY=VALUE or {' or '.join(PRESETS)}")
            elif key.startswith("pulsify."):
                raise UsageError(f"--metadata {text}", why="keys that begin with 'pulsify.' are ours", hint="another key")
            else:
                entries[key] = value
        return Naming(parts[0], parts[1], entries)

    def apply(self, g: Graph) -> None:
        """Rename the states of an emitted graph and write the metadata. UsageError where names clash."""
        if (self.past, self.present) != (Naming.past, Naming.present):
            self._rename(g)
        assert g.pulse is not None
        known = {"{pulse}": str(g.pulse.size), "{states}": str(len(g.slots))}
        for key, value in self.metadata.items():
            if "{pulse}" in value and not isinstance(g.pulse.size, int):
                raise UsageError(
                    f"metadata {key!r} is the pulse", why=f"the pulse is chosen per call ({g.pulse.size})", hint="--pulse 4"
                )
            g.model.metadata_props[key] = re.sub(r"\{pulse\}|\{states\}", lambda m: known[m[0]], value)

    def _rename(self, g: Graph) -> None:
        pairs = [(slot.past, slot.present) for slot in g.slots]
        mine = {v for pair in pairs for v in pair}
        inner = [v for n in g.graph for v in n.outputs]
        taken = {v.name for v in (*g.graph.inputs, *g.graph.outputs, *g.graph.initializers.values(), *inner) if v not in mine}
        for past, present in pairs:
            assert past is not None and present is not None and past.name is not None
            state = past.name.removeprefix("past_")
            for v, template in ((past, self.past), (present, self.present)):
                name = template.replace("{id}", state)
                if name in taken:
                    raise UsageError(
                        f"--state-names {self.past}/{self.present}",
                        why=f"state {state!r} would be called {name!r}, and something in the model already is",
                        hint="a template that adds a word of its own: " + _EXAMPLES[1],
                    )
                taken.add(name)
                v.name = name
        name_bodies(g.graph)
        contract.rewrite(g)
