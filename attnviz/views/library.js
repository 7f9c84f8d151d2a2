// Last part of the library: which views there are, and how they come and go.
const KINDS = {
  picture: pictureView,
  tiles: tilesView,
  matrix: matrixView,
  cells: cellsView,
  colours: coloursView,
  lines: linesView,
  text: textView,
  arcs: arcsView,
};

function kindOf(view) {
  return KINDS[view.data.view];
}

shared.kinds = KINDS; // with at() and where(), so that a test can ask what lies where

// Runs again whenever Python sends other data or the theme changes.
shared.show = (root, {data, setStateValue}) => {
  if (!shared.tables) return; // the colours come with the library's own data
  root.getRootNode().adoptedStyleSheets = [shared.sheet];
  const view = (root.view ??= build(root, data));
  if (data.answered >= view.count) {
    if (`${data.tokens}` !== `${view.tokens}`) view.bring = data.tokens.length > 0;
    Object.assign(view, {tokens: data.tokens, selected: data.selected ?? null});
  }
  view.count = Math.max(view.count, data.answered);
  Object.assign(view, {data, send: setStateValue, ink: readInk(root), barTable: null});
  shared.ahead?.answered.add(view.name);
  root.style.setProperty("--av-muted", view.ink.muted);
  view.legend.classList.toggle("bare", !data.maps && !data.values); // nothing to measure: one line is enough
  view.canvas.setAttribute(
    "aria-label",
    `${data.label || "Map"}. Arrow keys move, Enter selects or deselects, Escape clears.`,
  );
  shared.views[data.name] = view;
  view.listen();
  schedule(view);
};

shared.hide = (root) => {
  const view = root.view;
  if (!view) return;
  view.stop?.();
  cancelAnimationFrame(view.frame);
  if (shared.hover?.by === view.name) setHover(null);
  if (shared.views[view.name] === view) delete shared.views[view.name];
};

// A button of the app that chooses a row or a column of a grid: the browser opens that map before the app answers.
function foresee({target}) {
  const button = target.closest?.("[role=radio]");
  for (const view of button ? Object.values(shared.views) : []) {
    (view.data.buttons ?? []).forEach((key, side) => {
      const row = button.closest(`.st-key-${key}`); // Streamlit's own name for a widget on the page
      if (row && view.selected) ahead(view, side, [...row.querySelectorAll("[role=radio]")].indexOf(button));
    });
  }
}

function ahead(view, side, at) {
  view.selected = view.selected.with(side, at);
  shared.ahead = {by: view.name, answered: new Set()}; // names of the views that have heard from Python since
  schedule(view);
  scheduleLinked(view);
}

// A tip stands still while the page moves below it: it goes, until the pointer or a key asks again.
function hideTips({target}) {
  for (const {tip, root} of Object.values(shared.views)) {
    if (tip.matches(":popover-open") && target.contains(root.getRootNode().host)) tip.hidePopover();
  }
}

// Zooming, or a window on another screen: as many pixels of the page are now more or fewer of the device.
function watchRatio() {
  const again = () => {
    Object.values(shared.views).forEach(schedule);
    watchRatio();
  };
  matchMedia(`(resolution: ${globalThis.devicePixelRatio}dppx)`).addEventListener("change", again, {once: true});
}

export default function ({data, parentElement}) {
  const box = parentElement.host?.closest("[data-testid=stElementContainer]");
  if (box) box.style.position = "absolute"; // invisible: takes no gap between the elements around it
  if (!shared.listens) {
    document.addEventListener("click", foresee, true);
    document.addEventListener("scroll", hideTips, {capture: true, passive: true});
    watchRatio();
  }
  shared.listens = true;
  fillTables(data.tables);
  Object.assign(shared, {diverging: data.diverging, roles: data.roles});
  shared.sheet ??= new CSSStyleSheet();
  shared.sheet.replaceSync(data.css);
  signal("library");
}
