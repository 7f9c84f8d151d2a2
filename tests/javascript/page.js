// A page without a browser: the library of the views in node, records as the transport brings them, and a canvas that
// remembers what is drawn on it. Reads {library, transport, view, look, records, ask} as JSON; writes what each expression
// of `ask` is.
"use strict";
const vm = require("node:vm");
const fs = require("node:fs");

// What was drawn, as [name, ...arguments] and [name, "=", value]; a letter is 8 wide.
function recorder() {
  const drawn = [];
  const kept = {drawn, measureText: (text) => ({width: 8 * text.length})};
  kept.createImageData = (width, height) => ({width, height, data: new Uint8ClampedArray(4 * width * height)});
  kept.createPattern = () => "hatch";
  return new Proxy(kept, {
    get: (_, name) => (name in kept ? kept[name] : (...given) => void drawn.push([name, ...given])),
    set: (_, name, value) => (drawn.push([name, "=", value]), (kept[name] = value), true),
  });
}

class OffscreenCanvas {
  constructor(width, height) {
    Object.assign(this, {width, height});
    const context = (this.context = recorder());
    context.putImageData = ({data}) => (this.pixels = new Uint32Array(data.buffer)); // RGBA, little-endian
  }
  getContext() {
    return this.context;
  }
}

const page = vm.createContext({
  EventTarget,
  CustomEvent,
  Event,
  Response,
  DecompressionStream,
  Blob,
  TextDecoder,
  console,
  performance,
  setTimeout,
  OffscreenCanvas,
  recorder,
  createImageBitmap: async (blob) => ({blob}),
  requestAnimationFrame: () => 1,
  document: {addEventListener() {}},
  matchMedia: () => ({addEventListener() {}}),
  devicePixelRatio: 1,
  CSSStyleSheet: class {
    replaceSync() {}
  },
});

// A module of one default export, as a function of the page.
function load(source, name) {
  vm.runInContext(source.replace("export default function", `globalThis.${name} = function`), page);
}

// Typed arrays as lists; NaN becomes null by itself.
const plain = (_, value) => (ArrayBuffer.isView(value) || value instanceof Map ? Array.from(value) : value);

async function main() {
  const {library, transport, view, look, records, ask} = JSON.parse(fs.readFileSync(0, "utf8"));
  const parentElement = {host: null};
  load(library, "openLibrary");
  load(transport, "bring");
  load(view, "openView");
  page.openLibrary({data: look, parentElement});
  for (const record of records) page.bring({data: new Uint8Array(Buffer.from(record, "base64")), parentElement});
  await Promise.all([...page.__attnviz.records.values()].map((record) => record.opening));
  const found = ask.map((expression) => vm.runInContext(`(${expression})`, page));
  process.stdout.write(JSON.stringify(found, plain));
}

main().catch((error) => {
  process.stderr.write(String(error.stack ?? error));
  process.exitCode = 1;
});
