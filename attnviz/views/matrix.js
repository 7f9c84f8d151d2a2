// One whole map: rows are queries, columns are keys, and a crosshair that all other views show.

const AXIS = 24; // pixels for the names of the axes
// pixels a row at least, tokens at most, where every row has its word
const LEGIBLE = 7;
const LABELLED = 64;

function matrixBoxes(view, record) {
  const skip = view.data.hide_special ? record.keys.lead : 0;
  const {transposed} = view.data;
  const queries = record.queries.count;
  const keys = record.keys.count - skip;
  const [columns, rows] = transposed ? [queries, keys] : [keys, queries];
  const [left, top] = [record.queries, record.keys].map((tokens) => AXIS + labelRoom(view, record, tokens));
  const [x, y] = transposed ? [top, left] : [left, top];
  const room = [view.width - x - 2 * EDGE, view.data.height - y - 2 * EDGE];
  const cell = Math.min(room[0] / columns, room[1] / rows);
  const size = [Math.max(1, Math.round(cell * columns)), Math.max(1, Math.round(cell * rows))];
  return {plane: [x + EDGE, y + EDGE, ...size], skip, columns, rows, transposed, cell};
}

// Pixels that the words of a text take beside the plane; none for patches.
function labelRoom({context, ink}, record, tokens) {
  if (tokens.grid || record.axes) return 0;
  if (tokens.wide) return tokens.wide;
  context.font = `600 13px ${ink.font}`;
  const widest = tokens.labels.reduce((most, label) => Math.max(most, context.measureText(label).width), 0);
  return (tokens.wide = Math.min(96, Math.ceil(widest) + 8));
}

// The band of one query or one key across the plane: [x, y, width, height].
function band({plane: [x, y, w, h], skip, columns, rows, transposed}, role, index) {
  const across = (role === "query") === !transposed;
  const at = role === "key" ? index - skip : index;
  return across ? [x, y + (at * h) / rows, w, h / rows] : [x + (at * w) / columns, y, w / columns, h];
}

const matrixView = {
  clears: true,
  wide: false,
  record(view) {
    const record = recordOf(view.maps);
    return hasMap(record, view.index) && record.square ? record : null;
  },
  at(view, px, py) {
    const record = this.record(view);
    if (!record || this.roughly(view)) return null;
    const boxes = matrixBoxes(view, record);
    const [x, y, w, h] = boxes.plane;
    const column = Math.floor(((px - x) / w) * boxes.columns);
    const row = Math.floor(((py - y) / h) * boxes.rows);
    if (column < 0 || row < 0 || column >= boxes.columns || row >= boxes.rows) return null;
    const [query, key] = boxes.transposed ? [column, row] : [row, column];
    return {query, key: key + boxes.skip};
  },
  move(view, hit, [down, right]) {
    const record = this.record(view);
    if (!record) return null;
    const {skip, transposed} = matrixBoxes(view, record);
    const [forth, side] = transposed ? [right, down] : [down, right];
    const first = view.tokens[0] ?? 0;
    const at = (from, by) => (hit ? hit[from] + by : first);
    const bound = (value, low, {count}) => Math.min(count - 1, Math.max(low, value));
    return {query: bound(at("query", forth), 0, record.queries), key: bound(at("key", side), skip, record.keys)};
  },
  places(view, {query, key}) {
    const record = this.record(view);
    return {query: placeOf(record.queries, query), key: placeOf(record.keys, key)};
  },
  pick: (view, {query}) => toggle(view, query),
  where: (view) => matrixBoxes(view, matrixView.record(view)).plane,

  // The overview of a map that is still on its way, or null.
  roughly({rough, data}) {
    const tiles = rough && recordOf(rough.tiles);
    const grid = shared.views[data.linked_to]; // which knows the even heads
    return tiles && overviewImage(grid, tiles, rough, {name: data.scale, colours: data.colours});
  },

  paint(view) {
    const record = this.record(view);
    if (!record) return null;
    const {data, context} = view;
    const boxes = matrixBoxes(view, record);
    const rough = this.roughly(view);
    const {image, part, scale} = rough ?? matrixImage(record, view.index, data.scale, data.colours, data.hide_special);
    const [x, y, w, h] = boxes.plane;
    resize(view, y + h + EDGE);
    if (record.hasMasked && !rough) drawHatch(view, boxes.plane);
    context.imageSmoothingEnabled = w * view.ratio < part[2];
    context.imageSmoothingQuality = "high";
    context.save();
    if (boxes.transposed) context.transform(0, 1, 1, 0, x - y, y - x); // mirrors the picture at its diagonal
    context.drawImage(image, ...part, x, y, ...(boxes.transposed ? [h, w] : [w, h]));
    context.restore();
    this.axes(view, record, boxes);
    if (rough) {
      const legend = {scale, table: tableOf(data.colours, false), unit: record.unit, note: "block means"};
      return {sentence: "Overview; the exact map is loading", legend};
    }
    this.labels(view, record, boxes);
    this.marks(view, record, boxes);
    return this.words(view, record, boxes, scale);
  },

  axes(view, record, boxes) {
    const {context, ink} = view;
    const [x, y, w, h] = boxes.plane;
    const {transposed} = boxes;
    const turned = transposed ? " (transposed)" : "";
    const [own, other] = record.axes ?? AXES;
    const name = (role) => (role === "query" ? `${own}${turned}` : other);
    const [left, top] = transposed ? ["key", "query"] : ["query", "key"];
    context.font = `600 12px ${ink.font}`;
    context.fillStyle = ink[top];
    context.fillText(`${name(top)} →`, x, AXIS + EDGE - 8);
    context.save();
    context.translate(AXIS + EDGE - 9, y + h);
    context.rotate(-Math.PI / 2);
    context.fillStyle = ink[left];
    const text = `← ${name(left)}`;
    context.fillText(text, h - context.measureText(text).width, 0);
    context.restore();
    context.strokeStyle = ink.dark ? "rgb(255 255 255 / 0.7)" : "rgb(255 255 255 / 0.8)";
    context.lineWidth = 1;
    for (const [role, tokens] of [
      ["query", record.queries],
      ["key", record.keys],
    ]) {
      if (!tokens.prefix || (role === "key" && boxes.skip)) continue;
      const [bx, by] = band(boxes, role, tokens.prefix);
      const across = (role === "query") === !transposed;
      context.beginPath();
      context.moveTo(across ? x : Math.round(bx) + 0.5, across ? Math.round(by) + 0.5 : y);
      context.lineTo(across ? x + w : Math.round(bx) + 0.5, across ? Math.round(by) + 0.5 : y + h);
      context.stroke();
    }
  },

  // The words along both axes, by number, so that a word that comes twice has two places. Where rows are too low for
  // them, those of the selected and of the pointer's row and column only.
  labels(view, record, boxes) {
    const {context, ink} = view;
    const {transposed, cell, skip, plane} = boxes;
    const sides = [
      ["query", record.queries, hovered(record.queries)],
      ["key", record.keys, tokenAt(record.keys, shared.hover?.key)],
    ];
    context.textBaseline = "middle";
    for (const [role, tokens, over] of sides) {
      const room = labelRoom(view, record, tokens) - 6;
      const left = (role === "query") === !transposed;
      const every = cell >= LEGIBLE && tokens.count <= LABELLED;
      for (let i = role === "key" ? skip : 0; room > 0 && i < tokens.count; i++) {
        const marked = i === over || (role === "query" && view.tokens.includes(i));
        if (!marked && !every) continue;
        const [x, y, w, h] = band(boxes, role, i);
        const size = every ? Math.min(13, Math.max(8, cell * 0.9)) : 12;
        context.save();
        context.translate(left ? plane[0] - 5 : x + w / 2, left ? y + h / 2 : plane[1] - 5);
        if (!left) context.rotate(-Math.PI / 2);
        context.textAlign = left ? "right" : "left";
        context.font = `${marked ? "600 " : ""}${size}px ${ink.font}`;
        context.fillStyle = i === over ? ink[role] : ink.text;
        context.fillText(fitted(context, tokens.labels[i], room), 0, 0);
        context.restore();
      }
    }
    context.textBaseline = "alphabetic";
  },

  marks(view, record, boxes) {
    const {context, ink} = view;
    const query = hovered(record.queries);
    const key = tokenAt(record.keys, shared.hover?.key);
    const frame = (role, index, colour, line) => {
      const [x, y, w, h] = band(boxes, role, index);
      const across = w > h;
      outline(context, across ? [x - 1, y - 2, w + 2, h + 4] : [x - 2, y - 1, w + 4, h + 2], colour, line);
    };
    for (const token of view.tokens) if (token < record.queries.count) frame("query", token, PICKED, 1.5);
    if (key != null && key >= boxes.skip) frame("key", key, ink.key, 1.5);
    if (query != null) frame("query", query, view.tokens.includes(query) ? PICKED : ink.query, 1.5);
  },

  words(view, record, boxes, scale) {
    const {data} = view;
    const queries = active(view, record.queries);
    const key = tokenAt(record.keys, shared.hover?.key);
    const legend = {scale, table: tableOf(data.colours, record.signed), unit: record.unit};
    legend.note = queries.length
      ? gapsNote(record, view.index, queries, data.hide_special)
      : maskNote(record, view.index);
    if (!queries.length) {
      const row = record.axes ? record.axes[0].split(":")[0] : "query";
      return {
        sentence: `Each ${data.transposed ? "column" : "row"} is one ${row}; point at or tap a cell to read it`,
        legend,
      };
    }
    const over = key != null && key >= boxes.skip ? key : null;
    const {sentence} = rowWords(record, view.index, queries, data.hide_special, over);
    return {sentence, tip: sentence, tipAt: view.pointer ?? this.cursorAt(view, boxes), legend};
  },

  cursorAt(view, boxes) {
    if (!view.cursor) return null;
    const query = band(boxes, "query", view.cursor.query);
    const key = band(boxes, "key", view.cursor.key);
    return boxes.transposed ? [query[0], key[1]] : [key[0], query[1]];
  },
};
