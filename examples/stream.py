"""python stream.py MODEL.onnx INPUT.npy OUTPUT.npy

Streams a whole array through a pulsed model with one streaming input, a pulse per call; needs numpy and onnxruntime.
"""

import json
import sys

import numpy as np
import onnxruntime

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
manifest = json.loads(session.get_modelmeta().custom_metadata_map["pulsify.manifest"])
names = [o.name for o in session.get_outputs()]
(stream,) = [i for i in manifest["inputs"] if i["axis"] is not None]
output, pulse = manifest["outputs"][0], manifest["pulse"]
x = np.moveaxis(np.load(source), stream["axis"], 0)
total = len(x) * pulse // stream["frames"]  # in frames of the stream symbol
length = max(0, eval(output["length"], {manifest["symbol"]: total, "min": min, "max": max}))

states = {s["input"]: np.zeros([d if isinstance(d, int) else 1 for d in s["shape"]], s["dtype"]) for s in manifest["states"]}
frames, t = [], 0
while t == 0 or t * output["frames"] < output["delay"] + length:  # past the end, the tail is flushed
    chunk = x[t * stream["frames"] : (t + 1) * stream["frames"]]
    filled = np.pad(chunk, [(0, stream["frames"] - len(chunk)), *[(0, 0)] * (x.ndim - 1)])
    feeds = {stream["name"]: np.moveaxis(filled, 0, stream["axis"]), **states}
    feeds.update({i["name"]: np.array([total]) for i in manifest["inputs"] if i["axis"] is None})  # a length, here
    if manifest["valid"]:
        feeds[manifest["valid"]["input"]] = np.array([min(max(total - t * pulse, 0), pulse)])
    results = dict(zip(names, session.run(names, feeds)))
    states = {s["input"]: results[s["output"]] for s in manifest["states"]}
    frames.append(results[output["name"]])
    t += 1

axis = output["axis"]
whole = np.concatenate(frames, axis)
np.save(target, np.take(whole, range(output["delay"], output["delay"] + length), axis))
