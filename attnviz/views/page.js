// A page without a server: its records go into memory, each view into a shadow root of its own.
const {library: shared, records, parts} = JSON.parse(document.getElementById("page").textContent);
const main = document.querySelector("main");
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.codePointAt(0));
const views = [];

library({data: shared, parentElement: {}});
for (const text of records) transport({data: bytes(text), parentElement: {}});
for (const {tag, text, data} of parts) {
  const host = document.createElement(tag ?? "div");
  main.append(host);
  if (tag) host.textContent = text;
  else views.push([place(host, data), data]);
}

// Room for a view, beside others where the page is wide enough; a grid of small maps needs as much as it is wide.
function place(host, {fit, tile}) {
  host.className = "host";
  if (tile) host.style.flex = `0 1 ${fit.left + fit.across * (tile + 6)}px`;
  const root = host.attachShadow({mode: "open"});
  root.append(Object.assign(document.createElement("div"), {className: "view"}));
  return root;
}

// What is picked in one view is asked about in all, which Python sees to in the app; a grid's picks are maps.
function picked(from, {tokens}) {
  if (from.view === "tiles" || !tokens.length) return;
  const {views: shown, signals} = globalThis.__attnviz;
  for (const other of Object.values(shown)) if (other.name !== from.name) other.tokens = tokens;
  signals.dispatchEvent(new CustomEvent("hover")); // all draw anew
}

function show() {
  for (const [parentElement, data] of views)
    view({parentElement, data, setStateValue: (_, pick) => picked(data, pick)});
}

show();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

// In a frame of a notebook: as tall as what is in it. Where the frame cannot be reached, it scrolls.
new ResizeObserver(() => {
  try {
    const {frameElement} = globalThis;
    if (frameElement) frameElement.style.height = `${document.documentElement.offsetHeight + 4}px`;
  } catch {
    // another origin
  }
}).observe(document.documentElement);
