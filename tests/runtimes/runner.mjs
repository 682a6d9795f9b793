// Streams what tests/runtimes/cases.py wrote, by the client of examples/, in Node or in a browser.
import { stream } from "../../examples/stream.mjs";

const TYPES = { float32: Float32Array, int64: BigInt64Array };

/** `read(name)` gives the bytes of a file of the case; the answer is one text: a line of JSON per piece of output. */
export async function run(ort, read) {
  const about = JSON.parse(new TextDecoder().decode(await read("stream.json")));
  const inputs = {};
  for (const { name, type, dims } of about.inputs)
    inputs[name] = new ort.Tensor(type, new TYPES[type]((await read(`in.${name}`)).slice().buffer), dims);
  const lines = [];
  await stream(ort, await read("model.onnx"), inputs, about.total, (name, { data, dims }) => {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    lines.push(JSON.stringify([name, dims, Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("")]));
  });
  return lines.join("\n");
}
