// When views are painted, and on how large a canvas: one turn a frame, what was clicked first.

const LARGEST = 16_000; // pixels a canvas may be long in every browser
const FRAME = 30; // milliseconds of one frame; what is not painted by then waits for the next, and clicks come through

function schedule(view) {
  (shared.waiting ??= new Set()).add(view);
  shared.frame ||= requestAnimationFrame(paintWaiting);
}

// First what the last frame left over, then the views that are linked to a grid: what was clicked there shows here.
function turn({late, data}) {
  if (late) return 0;
  return data.linked_to ? 1 : 2;
}

function paintWaiting() {
  const began = performance.now();
  const views = [...shared.waiting].sort((a, b) => turn(a) - turn(b));
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

function scheduleLinked({name}) {
  for (const other of Object.values(shared.views)) if (other.data.linked_to === name) schedule(other);
}

// The map a view shows: the one Python named or, until Python has answered, the one just clicked in the grid it is linked to,
// or asked for by one of that grid's buttons.
// `rough`: that one is not in the browser yet, but perhaps its small overview is.
function opened({data, name}) {
  const leader = shared.views[data.linked_to];
  const named = {maps: data.maps, index: data.index, rough: null};
  if (!leader?.selected) return named;
  const ahead = shared.ahead?.by === data.linked_to && !shared.ahead.answered.has(name);
  if (!ahead && leader.count <= data.linked_answered) return named;
  const [row, column] = leader.selected;
  const maps = leader.data.maps[row];
  if (hasMap(recordOf(maps), column)) return {maps, index: column, rough: null};
  return {...named, rough: {tiles: leader.data.tiles, row, column}};
}

function widthOf(view) {
  return (kindOf(view).scrolls ? view.stage : view.root).clientWidth;
}

function repaint(view) {
  const {scrolls} = kindOf(view);
  const before = view.width;
  const next = opened(view);
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
  if (view.bring && scrolls && !view.whole) view.bring = !bringIntoSight(view);
  tell(view, told);
  shared.draws[view.name] = (shared.draws[view.name] ?? 0) + 1;
  shared.draws.total = (shared.draws.total ?? 0) + 1;
}

// An empty canvas of this height (at most the reserved one) and of the device's own pixels. In a view that scrolls it
// stays in the window while what it shows moves, so that it is never larger than what is seen. -> the part seen.
function resize(view, height, wide = view.width) {
  if (view.whole) return unroll(view, Math.ceil(height), Math.ceil(wide));
  const {canvas, context, ratio, width, stage, pane} = view;
  const fit = Math.ceil(Math.min(height, view.data.height));
  view.height = fit;
  const [w, h] = [Math.round(width * ratio), Math.round(fit * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    Object.assign(canvas, {width: w, height: h});
    Object.assign(canvas.style, {width: `${width}px`, height: `${fit}px`});
  }
  const scrolls = stage.classList.contains("scrolls");
  stage.style.maxHeight = scrolls && height > fit ? `${fit}px` : "";
  Object.assign(pane.style, scrolls ? {width: `${wide}px`, height: `${Math.ceil(height)}px`} : {width: "", height: ""});
  const left = stage.scrollLeft;
  const top = stage.scrollTop;
  context.setTransform(ratio, 0, 0, ratio, -left * ratio, -top * ratio);
  context.clearRect(left, top, width, fit);
  return {left, top, right: left + width, bottom: top + fit};
}

// An empty canvas that holds all of a view that scrolls, for a moment and for an export; less sharp where that would be
// more than browsers draw on.
function unroll(view, height, width) {
  const {canvas, context} = view;
  const ratio = (view.ratio = Math.min(view.ratio, LARGEST / Math.max(height, width)));
  Object.assign(canvas, {width: Math.round(width * ratio), height: Math.round(height * ratio)});
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return {left: 0, top: 0, right: width, bottom: height};
}

// Scrolls no further than needed for a box to be seen.
function reveal({stage}, [x, y, w = 0, h = 0], behavior = "auto") {
  const into = (at, size, from, room) => Math.min(Math.max(from, at + size + 24 - room), at - 24);
  const left = into(x, w, stage.scrollLeft, stage.clientWidth);
  stage.scrollTo({left, top: into(y, h, stage.scrollTop, stage.clientHeight), behavior});
}
