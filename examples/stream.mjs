// Streams a pulsed model in JavaScript, in Node or in a browser: `ort` is onnxruntime-node or onnxruntime-web.
// `inputs` hold the whole stream as ort.Tensor, by name; `total` is its length in frames of the stream symbol.
import { evaluate, manifest } from "./manifest.mjs";

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int64: BigInt64Array, int32: Int32Array, int16: Int16Array,
  int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
};
const size = (dims) => dims.reduce((a, b) => a * b, 1);

/** Frames [from, from + frames) along an axis; those past the end are zeros, as any finite filler would do. */
export function cut(ort, tensor, axis, from, frames) {
  const have = tensor.dims[axis], step = size(tensor.dims.slice(axis + 1)), dims = tensor.dims.with(axis, frames);
  const data = new tensor.data.constructor(size(dims)), end = Math.min(from + frames, have);
  for (let row = 0; row * have * step < tensor.data.length && from < end; row++)
    data.set(tensor.data.subarray((row * have + from) * step, (row * have + end) * step), row * frames * step);
  return new ort.Tensor(tensor.type, data, dims);
}

/** Calls `emit(name, tensor)` with the frames of every output in order; at the end, with outputs without a time axis. */
export async function stream(ort, bytes, inputs, total, emit) {
  const session = await ort.InferenceSession.create(bytes), m = manifest(bytes), rows = 1;
  const zeros = (s) => new ort.Tensor(s.dtype, new ARRAYS[s.dtype](size(s.shape)), s.shape);
  const states = m.states.map((s) => ({ ...s, shape: s.shape.map((d) => (typeof d === "number" ? d : rows)) }));
  let memory = Object.fromEntries(states.map((s) => [s.input, zeros(s)]));
  const outputs = m.outputs.filter((o) => o.axis !== null);
  const ends = outputs.map((o) => o.delay + Math.max(0, evaluate(o.length, { [m.symbol]: total })));
  const settled = total + Math.max(0, ...m.outputs.map((o) => o.settle ?? 0));
  let results = {};
  for (let t = 0; t * m.pulse < settled || outputs.some((o, i) => t * o.frames < ends[i]); t++) {
    const feeds = { ...memory };
    for (const i of m.inputs)
      feeds[i.name] = i.axis === null ? inputs[i.name] : cut(ort, inputs[i.name], i.axis, t * i.frames, i.frames);
    const real = Math.min(Math.max(total - t * m.pulse, 0), m.pulse);
    if (m.valid) feeds[m.valid.input] = new ort.Tensor("int64", new BigInt64Array(rows).fill(BigInt(real)), [rows]);
    results = await session.run(feeds);
    memory = Object.fromEntries(states.map((s) => [s.input, results[s.output]]));
    outputs.forEach((o, i) => {
      const from = Math.max(o.delay - t * o.frames, 0), to = Math.min(ends[i] - t * o.frames, o.frames);
      if (from < to) emit(o.name, cut(ort, results[o.name], o.axis, from, to - from));
    });
  }
  for (const o of m.outputs) if (o.axis === null) emit(o.name, results[o.name]);
}
