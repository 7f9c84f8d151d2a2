// Shared by all views of the page: where records lie, what is under the pointer, how things are called.
// The files of the library are joined into one module in the order of transport.LIBRARY.
const shared = (globalThis.__attnviz ??= {records: new Map(), signals: new EventTarget(), draws: {}, views: {}});
const WHOLE = [0, 0, 1, 1];
const AXES = ["query: attends", "key: attended to"]; // of a map, unless its record names others
shared.hover ??= null; // {query, key: places or null, by: name of the view under the pointer}
shared.opened ??= new Map(); // name -> the last record that could be drawn

function signal(name, detail) {
  shared.signals.dispatchEvent(new CustomEvent(name, {detail}));
}

// A place is a token without its grid: {stream, prefix} or {stream, u, v} in 0..1, or {stream, token} for text.
// So views whose models cut the picture differently stay linked.
function placeOf(tokens, index) {
  if (index == null || index < 0 || index >= tokens.count) return null;
  if (!tokens.grid) return {stream: tokens.stream, token: index};
  if (index < tokens.prefix) return {stream: tokens.stream, prefix: index};
  const [rows, columns] = tokens.grid;
  const cell = index - tokens.prefix;
  const row = Math.floor(cell / columns);
  const column = cell % columns;
  return {stream: tokens.stream, u: (column + 0.5) / columns, v: (row + 0.5) / rows};
}

function tokenAt(tokens, place) {
  if (!place || place.stream !== tokens.stream) return null;
  if (place.token != null) return !tokens.grid && place.token < tokens.count ? place.token : null;
  if (!tokens.grid) return null;
  if (place.prefix != null) return place.prefix < tokens.prefix ? place.prefix : null;
  const [rows, columns] = tokens.grid;
  return tokens.prefix + Math.floor(place.v * rows) * columns + Math.floor(place.u * columns);
}

function cellOf(tokens, index) {
  const cell = index - tokens.prefix;
  const columns = tokens.grid[1];
  return cell < 0 ? null : [Math.floor(cell / columns), cell % columns];
}

function setHover(hover) {
  if (JSON.stringify(hover) === JSON.stringify(shared.hover)) return;
  shared.hover = hover;
  signal("hover");
}

// The tokens a view shows: the one under the pointer anywhere on the page, else those that are selected.
function hovered(tokens) {
  return tokenAt(tokens, shared.hover?.query);
}

function active(view, tokens) {
  const index = hovered(tokens);
  return index == null ? view.tokens.filter((token) => token >= 0 && token < tokens.count) : [index];
}
