// What a pulsed .onnx file says of itself, in plain JavaScript: ONNX Runtime does not hand its metadata out there.

/** The manifest (docs/contract.md), from the bytes of the file: field 14 of the protobuf holds the metadata. */
export function manifest(bytes) {
  function* fields(part) {
    let at = 0;
    const varint = () => {
      let value = 0, scale = 1, byte;
      do { byte = part[at++]; value += (byte % 128) * scale; scale *= 128; } while (byte > 127);
      return value;
    };
    while (at < part.length) {
      const tag = varint(), value = varint(); // a number, or how many bytes follow
      if (tag % 8 === 2) yield [tag >> 3, part.subarray(at, (at += value))];
    }
  }
  for (const [field, entry] of fields(bytes)) {
    if (field !== 14) continue;
    const [key, value] = [...fields(entry)].map(([, text]) => new TextDecoder().decode(text));
    if (key === "pulsify.manifest") return JSON.parse(value);
  }
  throw new Error("it carries no pulsify manifest: it is not a pulsed model");
}

/** The value of an expression of the manifest, such as "S//160 - 1", for `names` such as {S: 1600}. */
export function evaluate(expression, names) {
  const tokens = String(expression).match(/\d+|\w+|\/\/|[-+*%(),]/g);
  let at = 0;
  const sum = () => {
    let value = product();
    while (tokens[at] === "+" || tokens[at] === "-") value += tokens[at++] === "+" ? product() : -product();
    return value;
  };
  const product = () => {
    let value = atom();
    while (["*", "//", "%"].includes(tokens[at])) {
      const operator = tokens[at++], by = atom(), whole = Math.floor(value / by);
      value = operator === "*" ? value * by : operator === "//" ? whole : value - whole * by;
    }
    return value;
  };
  const atom = () => {
    const token = tokens[at++];
    if (token === "-") return -atom();
    if (token !== "(" && token !== "min" && token !== "max") return token in names ? names[token] : Number(token);
    if (token !== "(") at++;
    const values = [sum()];
    while (tokens[at++] === ",") values.push(sum());
    return token === "(" ? values[0] : Math[token](...values);
  };
  return sum();
}
