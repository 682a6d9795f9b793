// node stream_node.mjs MODEL.onnx INPUT.f32 > OUTPUT.f32
// Raw float32 samples through a pulsed model with one streaming input of shape [1, S], and its first output.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { manifest } from "./manifest.mjs";
import { stream } from "./stream.mjs";

const ort = createRequire(resolve("package.json"))("onnxruntime-node"); // as installed where it runs
const [model, input] = process.argv.slice(2);
const bytes = new Uint8Array(readFileSync(model)), { inputs, outputs } = manifest(bytes);
const file = readFileSync(input), samples = new Float32Array(file.buffer, file.byteOffset, file.length / 4);
const feeds = {};
for (const i of inputs)
  feeds[i.name] = i.axis === null
    ? new ort.Tensor("int64", BigInt64Array.of(BigInt(samples.length)), [1])
    : new ort.Tensor("float32", samples, [1, samples.length]);
await stream(ort, bytes, feeds, samples.length, (name, { data }) => {
  if (name === outputs[0].name) process.stdout.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
});
