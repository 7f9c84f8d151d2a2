// The frame every view sits in: canvas, tooltip, sentence, legend, download; pointer and keys.

function element(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

// Builds the frame once per view; what happens inside is in view.kind (see KINDS in library.js).
function build(root, data) {
  const view = {root, name: data.name, tokens: [], count: data.answered, hit: null, cursor: null, frame: 0, hover: ""};
  const stage = (view.stage = element("div", "stage", root));
  view.pane = element("div", "", stage); // as large as all there is to see, where the stage is a window on it
  view.canvas = element("canvas", "", view.pane);
  view.tip = element("div", "tip", stage);
  view.legend = element("div", "legend", root);
  view.low = element("span", "number", view.legend);
  view.bar = element("canvas", "bar", view.legend);
  view.high = element("span", "number", view.legend);
  view.save = element("button", "save", view.legend);
  view.words = element("span", "words", view.legend);
  view.sentence = element("div", "sentence", root);
  view.live = element("div", "live", root);
  Object.assign(view.bar, {width: 256, height: 1});
  view.canvas.tabIndex = 0;
  view.canvas.dataset.name = data.name;
  view.canvas.setAttribute("role", "application");
  view.live.setAttribute("aria-live", "polite");
  view.save.title = "Download this view as PNG";
  view.save.setAttribute("aria-label", view.save.title);
  view.tip.setAttribute("aria-hidden", "true");
  view.tip.popover = "manual";
  view.sentence.setAttribute("aria-hidden", "true"); // the live region says the same, throttled
  hear(view);
  return view;
}

function hear(view) {
  const {canvas} = view;
  const point = (event) => pointAt(view, kindOf(view).at(view, ...within(view, event)), event);
  let dragged = false;
  canvas.onpointermove = (event) => {
    point(event);
    moveSweep(view, event);
  };
  canvas.onpointerdown = (event) => {
    dragged = false;
    point(event);
    beginSweep(view, event);
  };
  canvas.onpointerup = () => (dragged = endSweep(view));
  canvas.onpointerleave = () => leave(view);
  canvas.onpointercancel = () => {
    view.sweep = null;
    leave(view);
  };
  canvas.onclick = (event) => {
    if (dragged) return;
    const hit = kindOf(view).at(view, ...within(view, event));
    if (hit) kindOf(view).pick(view, hit);
  };
  canvas.onkeydown = (event) => press(view, event);
  canvas.onblur = () => leave(view);
  view.stage.onscroll = () => schedule(view);
  view.save.onclick = () => download(view);
  const resized = () => widthOf(view) !== view.width && schedule(view); // also called for heights, which are our own
  new ResizeObserver(resized).observe(view.root);
  const heard = {hover: () => schedule(view), record: ({detail}) => reads(view, detail) && schedule(view)};
  view.listen = () => {
    view.stop?.();
    for (const name in heard) shared.signals.addEventListener(name, heard[name]);
    view.stop = () => Object.keys(heard).forEach((name) => shared.signals.removeEventListener(name, heard[name]));
  };
}

// Whether a view shows a record, by its own data or by the grid it is linked to.
function reads({data}, name) {
  const leader = shared.views[data.linked_to];
  const row = leader?.selected?.[0];
  return [...Object.values(data).flat(), leader?.data.maps[row], leader?.data.tiles].includes(name);
}

function within({canvas, stage}, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left + stage.scrollLeft, event.clientY - box.top + stage.scrollTop];
}

// What is under the pointer or the keyboard cursor of this view becomes what is hovered on the whole page.
function pointAt(view, hit, event) {
  if (event) view.cursor = null; // the pointer takes over from the keys
  view.pointer = event ? within(view, event) : null;
  view.hit = hit;
  view.canvas.style.cursor = hit && event ? "pointer" : "default";
  setHover(hit ? {...kindOf(view).places(view, hit), by: view.name} : null);
  schedule(view); // the tooltip follows even inside one patch
}

function leave(view) {
  view.cursor = view.hit = view.pointer = null;
  if (shared.hover?.by === view.name) setHover(null);
  schedule(view);
}

function press(view, event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own keys, such as back
  const arrows = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
  const kind = kindOf(view);
  const step = arrows[event.key];
  if (step) {
    view.cursor = kind.move(view, view.cursor ?? view.hit, step);
    if (view.cursor) pointAt(view, view.cursor, null);
    if (view.cursor && kind.scrolls) reveal(view, kind.where(view, view.cursor));
  } else if ((event.key === "Enter" || event.key === " ") && (view.cursor ?? view.hit)) {
    if (!event.repeat) kind.pick(view, view.cursor ?? view.hit); // a key held down picks once
  } else if (event.key === "Escape") {
    if (view.hit) leave(view);
    else if (view.tokens.length && kind.clears && !view.data.asks) choose(view, []);
  } else return;
  event.preventDefault();
  event.stopPropagation(); // the app has its own use for some keys
}

// A pick shows here at once and goes to Python; Python's answer carries `answered`, so an old one cannot undo it.
function choose(view, tokens) {
  view.tokens = tokens;
  view.count += 1;
  view.bring = tokens.length > 0;
  if (view.bring && kindOf(view).sight) bringView(view);
  view.send("pick", {tokens, count: view.count});
  schedule(view);
}

// The token under a click: selected alone or deselected; with several, added to the others or taken away from them.
function toggle(view, token) {
  if (view.data.asks) return answer(view, token);
  const held = view.tokens.includes(token);
  if (view.data.several || view.data.removal)
    choose(view, held ? view.tokens.filter((t) => t !== token) : [...view.tokens, token]);
  else choose(view, held && view.tokens.length === 1 ? [] : [token]);
}

// A view that asks for a token keeps those that are selected, and hands on the one that was clicked.
function answer(view, token) {
  view.count += 1;
  view.send("pick", {tokens: [token], count: view.count});
}

function loading(view) {
  resize(view, view.root.expected(view.width));
  const side = Math.min(view.width, view.height);
  view.context.fillStyle = view.ink.second;
  view.context.beginPath();
  view.context.roundRect(0, 0, kindOf(view).wide ? view.width : side, view.height, 8);
  view.context.fill();
  return {sentence: "Loading"};
}

// A view that has nothing to draw for this record says why.
function unfit(view, sentence) {
  resize(view, view.root.expected(view.width));
  return {sentence};
}

// told: {sentence, tip, tipAt, legend: {scale, unit, table, note}, note, marks: which outlines there are}
function tell(view, {sentence = "", tip = "", tipAt = view.pointer, legend = null, note = "", marks = {}}) {
  view.sentence.textContent = sentence;
  view.tip.textContent = tip;
  if (tip && tipAt && shared.hover?.by === view.name) placeTip(view, tipAt);
  else if (view.tip.matches(":popover-open")) view.tip.hidePopover();
  view.legend.classList.toggle("empty", !legend?.scale);
  const words = [legend?.scale?.words, legend?.note, note].filter(Boolean).join("; ");
  view.words.replaceChildren(...swatches(view, marks), words);
  if (legend?.scale) drawLegend(view, legend);
  view.spoken = sentence;
  view.speech ||= setTimeout(speak, 400, view); // throttled: a screen reader hears where the pointer rests
}

// The outlines of a view, each in its colour and in words.
function swatches({ink}, {selected, best, guess}) {
  const kinds = [
    [selected, "white: selected", PICKED, "#000000"],
    [best, "orange: strongest key", ink.key, "#ffffff"],
    [guess, "violet: your guess", ink.position, "#ffffff"],
  ];
  return kinds
    .filter(([is]) => is)
    .flatMap(([, text, colour, around]) => {
      const made = element("span", "mark");
      made.textContent = `${text};`;
      made.style.setProperty("--av-mark", colour);
      made.style.setProperty("--av-around", around);
      return [made, " "]; // outside of the mark, where the line may break
    });
}

// Linked views all have something to say at once: only the one in focus is heard.
function speak(view) {
  const {canvas, live, spoken} = view;
  const said = canvas.getRootNode().activeElement === canvas ? spoken : "";
  view.speech = 0;
  if (live.textContent !== said) live.textContent = said;
}

// Beside the pointer, in the browser's top layer: it may hang out of the view, but not out of the window.
function placeTip(view, [x, y]) {
  if (!view.tip.matches(":popover-open")) view.tip.showPopover();
  const {offsetWidth: width, offsetHeight: height} = view.tip;
  const box = view.pane.getBoundingClientRect();
  const left = box.left + x + 18 + width > globalThis.innerWidth - 8 ? box.left + x - 18 - width : box.left + x + 18;
  const top = box.top + y + 18 + height > globalThis.innerHeight - 8 ? box.top + y - 14 - height : box.top + y + 18;
  view.tip.style.transform = `translate(${Math.round(Math.max(8, left))}px, ${Math.round(Math.max(8, top))}px)`;
}

function drawLegend(view, {scale, unit, table, low, high}) {
  const least = `${scale.clipped ? "≤ " : ""}−${written(scale.high, unit)}`;
  view.low.textContent = low ?? (scale.signed ? least : written(scale.low ?? 0, unit));
  view.high.textContent = high ?? (scale.clipped ? "≥ " : "") + written(scale.high, unit);
  if (view.barTable === table) return;
  view.barTable = table;
  const context = view.bar.getContext("2d");
  const data = context.createImageData(256, 1);
  new Uint32Array(data.data.buffer).set(table);
  context.putImageData(data, 0, 0);
}

function readInk(root) {
  const style = getComputedStyle(root);
  const read = (name) => style.getPropertyValue(name).trim();
  const ground = read("--st-background-color") || "#ffffff";
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  probe.fillStyle = ground;
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
  const dark = 0.3 * r + 0.6 * g + 0.1 * b < 128;
  shared.dark = dark; // one theme for the whole page
  const roles = Object.fromEntries(Object.entries(shared.roles).map(([role, pair]) => [role, pair[dark ? 1 : 0]]));
  return {
    ...roles,
    dark,
    ground,
    second: read("--st-secondary-background-color") || roles.grid,
    text: read("--st-text-color") || roles.text,
    font: read("--st-font") || "sans-serif",
  };
}
