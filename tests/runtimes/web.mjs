// What the page does: streams every case that the server names in onnxruntime-web, and posts what came out.
import * as ort from "/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { run } from "./runner.mjs";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "/node_modules/onnxruntime-web/dist/";
for (const name of await (await fetch("/cases")).json()) {
  const read = async (file) => new Uint8Array(await (await fetch(`/cases/${name}/${file}`)).arrayBuffer());
  const body = await run(ort, read).catch((e) => `failed: ${e.stack ?? e}`);
  await fetch(`/results/${name}`, { method: "POST", body });
}
await fetch("/done", { method: "POST", body: "" });
