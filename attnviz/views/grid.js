// Patches on a plane: where the picture, the crop, each patch and each prefix token lie; outlines; moving by arrows.

// pixels: a prefix box, its height, the gap to the picture, outlines
const STRIP = 46;
const LOW = 24;
const GAP = 10;
const EDGE = 3;
const PICKED = "#ffffff";

// The boxes of a view whose picture has this aspect and whose grid fills `crop` (fractions of the picture). The prefix
// goes to the left or above, wherever it leaves the picture larger.
function gridBoxes(view, tokens, aspect, crop) {
  const room = view.data.height - 2 * EDGE;
  const wide = view.width - 2 * EDGE;
  const fit = (left, top) => Math.min((wide - left) / aspect, room - top);
  const side = fit(STRIP + GAP, 0);
  const over = fit(0, LOW + GAP);
  const above = tokens.prefix > 0 && over > side;
  const left = !tokens.prefix || above ? 0 : STRIP + GAP;
  const top = above ? LOW + GAP : 0;
  const size = fit(left, top);
  const window = [left + EDGE, top + EDGE, Math.max(1, Math.round(size * aspect)), Math.max(1, Math.round(size))];
  const [x, y, w, h] = window;
  const [l, t, r, b] = crop;
  return {tokens, above, window, crop: [x + l * w, y + t * h, (r - l) * w, (b - t) * h], bottom: y + h + EDGE};
}

// The box of a token: [x, y, width, height].
function boxOf({tokens, above, crop, window}, index) {
  const cell = cellOf(tokens, index);
  if (!cell) {
    const room = (above ? window[2] : window[3]) / Math.max(1, tokens.prefix) - 6;
    if (above) return [window[0] + index * (Math.min(72, room) + 6), EDGE, Math.min(72, room), LOW];
    return [EDGE, window[1] + index * (Math.min(34, room) + 6), STRIP, Math.min(34, room)];
  }
  const [rows, columns] = tokens.grid;
  const [x, y, w, h] = crop;
  return [x + (cell[1] * w) / columns, y + (cell[0] * h) / rows, w / columns, h / rows];
}

function tokenUnder(boxes, x, y) {
  const {tokens, crop} = boxes;
  const [rows, columns] = tokens.grid;
  const column = Math.floor(((x - crop[0]) / crop[2]) * columns);
  const row = Math.floor(((y - crop[1]) / crop[3]) * rows);
  if (column >= 0 && column < columns && row >= 0 && row < rows) return tokens.prefix + row * columns + column;
  for (let index = 0; index < tokens.prefix; index++) {
    const [left, top, width, height] = boxOf(boxes, index);
    if (x >= left && x <= left + width && y >= top && y <= top + height) return index;
  }
  return null;
}

// One step by arrow key; beyond the first column, or above the first row, lies the prefix.
function step({tokens, above}, index, [down, right]) {
  if (index == null) return Math.min(tokens.prefix, tokens.count - 1);
  const [rows, columns] = tokens.grid;
  const cell = cellOf(tokens, index);
  if (!cell) {
    if ((above ? down : right) > 0) return tokens.prefix;
    return Math.min(tokens.prefix - 1, Math.max(0, index + (above ? right : down)));
  }
  const [row, column] = [cell[0] + down, cell[1] + right];
  const bound = (at, size) => Math.min(size - 1, Math.max(0, at));
  if (tokens.prefix && (above ? row : column) < 0) return bound(above ? column : row, tokens.prefix);
  return tokens.prefix + bound(row, rows) * columns + bound(column, columns);
}

// Marks: a selected token is white on black; what is under the pointer has the colour of its role on white.
function outline(context, [x, y, w, h], colour, line = 2.5) {
  const box = [x + 0.5, y + 0.5, w - 1, h - 1];
  context.lineJoin = "round";
  context.strokeStyle = colour === PICKED ? "#000000" : "#ffffff";
  context.lineWidth = line + 2.5;
  context.strokeRect(...box);
  context.strokeStyle = colour;
  context.lineWidth = line;
  context.strokeRect(...box);
}

function markTokens(view, boxes, {best = null, keys = boxes.tokens} = {}) {
  const {context, ink} = view;
  const over = hovered(boxes.tokens);
  const other = tokenAt(keys, shared.hover?.key);
  for (const token of view.tokens) if (token < boxes.tokens.count) outline(context, boxOf(boxes, token), PICKED);
  if (view.data.guess != null) outline(context, boxOf(boxes, view.data.guess), ink.position, 1.5);
  if (best != null) outline(context, boxOf(boxes, best), ink.key, 1.5);
  if (other != null && other !== over) outline(context, boxOf(boxes, other), ink.key);
  if (over != null) outline(context, boxOf(boxes, over), view.tokens.includes(over) ? PICKED : ink.query);
}

// The prefix tokens as small labelled boxes; `fill` gives their colour or null, `masked` says which are hatched.
function drawPrefix(view, boxes, fill, masked = () => false) {
  const {context, ink} = view;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `600 12px ${ink.font}`;
  for (let index = 0; index < boxes.tokens.prefix; index++) {
    const [x, y, w, h] = boxOf(boxes, index);
    const colour = fill(index);
    context.fillStyle = colour ?? ink.second;
    context.fillRect(x, y, w, h);
    if (masked(index)) drawHatch(view, [x, y, w, h]);
    context.fillStyle = colour ? contrast(colour) : ink.text;
    context.fillText(boxes.tokens.labels[index], x + w / 2, y + h / 2 + 0.5, w - 4);
  }
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
}

function css(rgba) {
  return `rgb(${rgba & 255} ${(rgba >> 8) & 255} ${(rgba >> 16) & 255})`;
}

// Black or white, whichever is easier to read on a colour: at least 4.58 to 1 (WCAG 2.2).
function contrast(colour) {
  const [r, g, b] = colour.match(/\d+/g).map((part) => {
    const light = Number(part) / 255;
    return light <= 0.04045 ? light / 12.92 : ((light + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.1791 ? "#000000" : "#ffffff";
}

// Where nothing may be seen: thin slanted lines, told apart from zero on every scale. All boxes are one shape, so that
// no seams show where they touch.
function drawHatch({context, ink}, ...boxes) {
  context.save();
  context.fillStyle = ink.hatch ??= hatch(context, ink);
  context.beginPath();
  for (const box of boxes) context.rect(...box);
  context.fill();
  context.restore();
}

// The boxes of what is masked in a row whose cells fill a plane from `first` on: one for each stretch side by side.
function maskedBoxes(index, {rows, columns, first}, [x, y, w, h]) {
  const boxes = [];
  const [wide, tall] = [w / columns, h / rows];
  const masked = (row, column) => index[first + row * columns + column] === -1;
  for (let row = 0; row < rows; row++) {
    let from = 0;
    while (from < columns) {
      let to = from;
      while (to < columns && masked(row, to)) to += 1;
      if (to > from) boxes.push([x + from * wide, y + row * tall, (to - from) * wide, tall]);
      from = to + 1;
    }
  }
  return boxes;
}

function hatch(context, {muted, second}) {
  const tile = new OffscreenCanvas(6, 6);
  const lines = tile.getContext("2d");
  lines.fillStyle = second;
  lines.fillRect(0, 0, 6, 6);
  lines.strokeStyle = muted;
  lines.globalAlpha = 0.35;
  for (const shift of [-6, 0, 6]) {
    // three, so that the corners meet
    lines.moveTo(shift - 1, 7);
    lines.lineTo(shift + 7, -1);
  }
  lines.stroke();
  return context.createPattern(tile, "repeat");
}

// Thin lines between patches.
function drawLines(view, boxes, alpha) {
  const {context} = view;
  const [rows, columns] = boxes.tokens.grid;
  const [x, y, w, h] = boxes.crop;
  context.strokeStyle = `rgb(255 255 255 / ${alpha})`;
  context.lineWidth = 1;
  context.beginPath();
  for (let i = 1; i < columns; i++) {
    const at = Math.round(x + (i * w) / columns) + 0.5;
    context.moveTo(at, y);
    context.lineTo(at, y + h);
  }
  for (let i = 1; i < rows; i++) {
    const at = Math.round(y + (i * h) / rows) + 0.5;
    context.moveTo(x, at);
    context.lineTo(x + w, at);
  }
  context.stroke();
}
