// node node.mjs NODE_MODULES FOLDER...: streams the case of each folder in onnxruntime-node, writes its out.jsonl.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { run } from "./runner.mjs";

const [modules, ...folders] = process.argv.slice(2);
const ort = createRequire(join(modules, "package.json"))("onnxruntime-node");
for (const folder of folders)
  writeFileSync(join(folder, "out.jsonl"), await run(ort, async (name) => new Uint8Array(readFileSync(join(folder, name)))));
