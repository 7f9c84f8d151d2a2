// The frame every view sits in: canvas, tooltip, sentence, legend, download; pointer, keys, one repaint a frame.

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
  canvas.onpointermove = (event) => pointAt(view, kindOf(view).at(view, ...within(view, event)), event);
  canvas.onpointerdown = canvas.onpointermove;
  canvas.onpointerleave = canvas.onpointercancel = () => leave(view);
  canvas.onclick = (event) => {
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

// Whether a view shows what is in a slot, by its own data or by the grid it follows.
function reads({data}, slot) {
  const leader = shared.views[data.follows], row = leader?.selected?.[0];
  return [...Object.values(data).flat(), leader?.data.maps[row], leader?.data.tiles].includes(slot);
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
  const kind = kindOf(view), step = arrows[event.key];
  if (step) {
    view.cursor = kind.move(view, view.cursor ?? view.hit, step);
    if (view.cursor) pointAt(view, view.cursor, null);
    if (view.cursor && kind.scrolls) reveal(view, kind.where(view, view.cursor));
  } else if ((event.key === "Enter" || event.key === " ") && (view.cursor ?? view.hit)) {
    if (!event.repeat) kind.pick(view, view.cursor ?? view.hit); // a key held down picks once
  } else if (event.key === "Escape") {
    if (view.hit) leave(view);
    else if (view.tokens.length && kind.clears) choose(view, []);
  } else return;
  event.preventDefault();
  event.stopPropagation(); // the app has its own use for some keys
}

// A pick shows here at once and goes to Python; Python's answer carries `answered`, so an old one cannot undo it.
function choose(view, tokens) {
  view.tokens = tokens;
  view.count += 1;
  view.send("pick", {tokens, count: view.count});
  schedule(view);
}

// The token under a click: alone or let go; where several may be picked, added to the others or taken away from them.
function toggle(view, token) {
  const held = view.tokens.includes(token);
  if (view.data.several) choose(view, held ? view.tokens.filter((t) => t !== token) : [...view.tokens, token]);
  else choose(view, held && view.tokens.length === 1 ? [] : [token]);
}

// Painting ------------------------------------------------------------------------------------------------------------
const LARGEST = 16_000; // pixels a canvas may be long in every browser
const FRAME = 30; // milliseconds of one frame; what is not painted by then waits for the next, and clicks come through

function schedule(view) {
  (shared.waiting ??= new Set()).add(view);
  shared.frame ||= requestAnimationFrame(paintWaiting);
}

// First what the last frame left over, then the views that follow a grid: what was clicked there shows here.
function turn({late, data}) {
  return late ? 0 : data.follows ? 1 : 2;
}

function paintWaiting() {
  const began = performance.now(), views = [...shared.waiting].sort((a, b) => turn(a) - turn(b));
  shared.frame = 0;
  for (const view of views) {
    view.late = performance.now() - began > FRAME;
    if (view.late) continue;
    shared.waiting.delete(view);
    try {
      repaint(view);
    } catch (error) {
      reportError(error); // one view that fails does not keep the others from being painted
    }
  }
  if (shared.waiting.size) shared.frame ||= requestAnimationFrame(paintWaiting);
}

function scheduleFollowers({name}) {
  for (const other of Object.values(shared.views)) if (other.data.follows === name) schedule(other);
}

// The map a view shows: the one Python named or, until Python has answered, the one just clicked in the grid it follows,
// or asked for by one of that grid's buttons.
// `rough`: that one is not in the browser yet, but perhaps its small overview is.
function opened({data, name}) {
  const leader = shared.views[data.follows], named = {maps: data.maps, index: data.index, rough: null};
  if (!leader?.selected) return named;
  const ahead = shared.ahead?.by === data.follows && !shared.ahead.answered.has(name);
  if (!ahead && leader.count <= data.led) return named;
  const [row, column] = leader.selected, maps = leader.data.maps[row];
  if (hasMap(recordOf(maps), column)) return {maps, index: column, rough: null};
  return {...named, rough: {tiles: leader.data.tiles, row, column}};
}

function widthOf(view) {
  return (kindOf(view).scrolls ? view.stage : view.root).clientWidth;
}

function repaint(view) {
  const {scrolls} = kindOf(view), before = view.width, next = opened(view);
  view.stage.classList.toggle("scrolls", Boolean(scrolls));
  view.width = widthOf(view);
  if (!view.width || !view.root.isConnected) return; // hidden, or gone
  const waits = typeof next.maps === "string" && !recordOf(next.maps);
  if (waits && view.drawn && view.width === before) return; // the old map stays until the next one has come
  view.drawn = !waits;
  view.ratio = globalThis.devicePixelRatio || 1;
  view.context = view.canvas.getContext("2d");
  Object.assign(view, next);
  const told = kindOf(view).paint(view) ?? loading(view);
  view.root.style.minHeight = ""; // from here on the canvas holds the height
  if (scrolls && view.stage.clientWidth < view.width) schedule(view); // a scroll bar has come and takes its share
  tell(view, told);
  shared.draws[view.name] = (shared.draws[view.name] ?? 0) + 1;
  shared.draws.total = (shared.draws.total ?? 0) + 1;
}

// An empty canvas of this height (at most the reserved one) and of the device's own pixels. In a view that scrolls it
// stays in the window while what it shows moves, so that it is never larger than what is seen. -> the part seen.
function resize(view, height, wide = view.width) {
  if (view.whole) return unroll(view, Math.ceil(height), Math.ceil(wide));
  const {canvas, context, ratio, width, stage, pane} = view, fit = Math.ceil(Math.min(height, view.data.height));
  view.height = fit;
  const [w, h] = [Math.round(width * ratio), Math.round(fit * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    Object.assign(canvas, {width: w, height: h});
    Object.assign(canvas.style, {width: `${width}px`, height: `${fit}px`});
  }
  const scrolls = stage.classList.contains("scrolls");
  stage.style.maxHeight = scrolls && height > fit ? `${fit}px` : "";
  Object.assign(pane.style, scrolls ? {width: `${wide}px`, height: `${Math.ceil(height)}px`} : {width: "", height: ""});
  const left = stage.scrollLeft, top = stage.scrollTop;
  context.setTransform(ratio, 0, 0, ratio, -left * ratio, -top * ratio);
  context.clearRect(left, top, width, fit);
  return {left, top, right: left + width, bottom: top + fit};
}

// An empty canvas that holds all of a view that scrolls, for a moment and for an export; less sharp where that would be
// more than browsers draw on.
function unroll(view, height, width) {
  const {canvas, context} = view, ratio = (view.ratio = Math.min(view.ratio, LARGEST / Math.max(height, width)));
  Object.assign(canvas, {width: Math.round(width * ratio), height: Math.round(height * ratio)});
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return {left: 0, top: 0, right: width, bottom: height};
}

// Scrolls no further than needed for a box to be seen.
function reveal({stage}, [x, y, w = 0, h = 0]) {
  const into = (at, size, from, room) => Math.min(Math.max(from, at + size + 24 - room), at - 24);
  stage.scrollTo(into(x, w, stage.scrollLeft, stage.clientWidth), into(y, h, stage.scrollTop, stage.clientHeight));
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

// told: {sentence, tip, tipAt, legend: {scale, unit, table, note}, note}
function tell(view, {sentence = "", tip = "", tipAt = view.pointer, legend = null, note = ""}) {
  view.sentence.textContent = sentence;
  view.tip.textContent = tip;
  if (tip && tipAt && shared.hover?.by === view.name) placeTip(view, tipAt);
  else if (view.tip.matches(":popover-open")) view.tip.hidePopover();
  view.legend.classList.toggle("empty", !legend?.scale);
  view.words.textContent = [legend?.scale?.words, legend?.note, note].filter(Boolean).join("; ");
  if (legend?.scale) drawLegend(view, legend);
  view.spoken = sentence;
  view.speech ||= setTimeout(speak, 400, view); // throttled: a screen reader hears where the pointer rests
}

// Linked views all have something to say at once: only the one in focus is heard.
function speak(view) {
  const {canvas, live, spoken} = view, said = canvas.getRootNode().activeElement === canvas ? spoken : "";
  view.speech = 0;
  if (live.textContent !== said) live.textContent = said;
}

// Beside the pointer, in the browser's top layer: it may hang out of the view, but not out of the window.
function placeTip(view, [x, y]) {
  if (!view.tip.matches(":popover-open")) view.tip.showPopover();
  const {offsetWidth: width, offsetHeight: height} = view.tip, box = view.pane.getBoundingClientRect();
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
  const context = view.bar.getContext("2d"), data = context.createImageData(256, 1);
  new Uint32Array(data.data.buffer).set(table);
  context.putImageData(data, 0, 0);
}

function readInk(root) {
  const style = getComputedStyle(root), read = (name) => style.getPropertyValue(name).trim();
  const ground = read("--st-background-color") || "#ffffff";
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  probe.fillStyle = ground;
  probe.fillRect(0, 0, 1, 1);
  const [r, g, b] = probe.getImageData(0, 0, 1, 1).data, dark = 0.3 * r + 0.6 * g + 0.1 * b < 128;
  shared.dark = dark; // one theme for the whole page
  const roles = Object.fromEntries(Object.entries(shared.roles).map(([role, pair]) => [role, pair[dark ? 1 : 0]]));
  return {
    ...roles, dark, ground, second: read("--st-secondary-background-color") || roles.grid,
    text: read("--st-text-color") || roles.text, font: read("--st-font") || "sans-serif",
  };
}
