"""The clients on random graphs: any chunks, saved and loaded anywhere, rows that join and leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify import StreamBatch, StreamSession, convert
from pulsify.stages.verify import batch_session
from tests.contexts import pulses
from tests.contract_check import random_inputs
from tests.families import ENDS, FAMILIES, MEMORIES
from tests.profiles import examples
from tests.streams import Recording, chunked, drive
from tests.test_random_graphs import grow


@pytest.mark.parametrize("heads", [0, 1])
@given(data=st.data())
@examples(10)
def test_clients_equal_batch(heads: int, data: st.DataObject) -> None:
    model = grow(data, 2, 5, FAMILIES | MEMORIES | ENDS, heads)
    c = convert(model, axis="S", pulse=data.draw(st.sampled_from(data.draw(pulses())), "pulse"))
    session, file = batch_session(c.source, c.batch), c.model.SerializeToString()
    rng = np.random.default_rng(data.draw(st.integers(0, 9), "seed"))
    recordings = []
    for _ in range(data.draw(st.integers(1, 5), "rows")):
        length = data.draw(st.integers(1, 40), "length")
        inputs = random_inputs(c, length, rng)
        try:
            session.run(None, inputs)
        except Exception:
            continue  # too short for the batch model, or for onnxruntime
        if c.batch.assume.allows(length):
            recordings.append(Recording(inputs, length))
    if c.batch.batch is None or data.draw(st.booleans(), "one"):
        client = StreamSession(file, filler=np.nan)
        for recording in recordings[:2]:
            chunked(data, client, c, recording).check(c, session)
    else:
        for done in drive(data, StreamBatch(file, filler=np.nan), c, recordings):
            done.check(c, session)
