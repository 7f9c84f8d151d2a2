// A grid of small maps: every head of every layer at a glance, all for the same token.

// pixels; BAR is the prefix, drawn left of each tile, NARROW the least width of a word
const BETWEEN = 6;
const TITLE = 18;
const HEADER = 22;
const BAR = 6;
const NARROW = 3;

function tileBoxes(view) {
  const {data, context} = view;
  const first = data.maps.map(recordOf).find(Boolean);
  const across = data.columns?.length ?? first?.shape[0] ?? 1;
  const ordered = Boolean(data.order);
  const titled = !data.columns || ordered;
  let left = 0;
  context.font = `12px ${view.ink.font}`;
  if (!ordered) for (const name of data.rows) left = Math.max(left, Math.ceil(context.measureText(name).width) + 10);
  const top = titled ? 2 : HEADER;
  const room = (view.width - left - 4 - (across - 1) * BETWEEN) / across;
  const tile = Math.max(16, Math.floor(Math.min(data.tile, room)));
  const below = (titled ? TITLE : 0) + badgeHeight(view);
  const order = data.order ?? data.rows.flatMap((_, row) => Array.from({length: across}, (_, column) => [row, column]));
  const cells = order.map(([row, column], i) => {
    const x = left + 2 + (i % across) * (tile + BETWEEN);
    return {row, column, x, y: top + Math.floor(i / across) * (tile + BETWEEN + below)};
  });
  const bottom = (cells.at(-1)?.y ?? 0) + tile + 4 + Math.max(0, below - 4);
  return {cells, tile, across, left, top, titled, first, bottom};
}

// The part of a tile that is the map, right of the prefix bar.
function inner(view, boxes, cell, record) {
  const bar = barOf(view, record);
  return [cell.x + bar, cell.y, boxes.tile - bar, boxes.tile];
}

function barOf(view, record) {
  return inRows(view, record) && record.keys.grid && record.keys.prefix && !view.data.hide_special ? BAR : 0;
}

function inRows(view, record) {
  return Boolean(record && (!record.square || view.data.mode === "rows"));
}

// How the tokens of a row lie in a tile, from which on: patches on their grid, words side by side, wrapped where they
// would be too narrow.
function cellsOf({data}, keys, tile) {
  if (keys.grid) return {rows: keys.grid[0], columns: keys.grid[1], first: keys.prefix};
  const first = data.hide_special ? keys.lead : 0;
  const rows = Math.max(1, Math.ceil(((keys.count - first) * NARROW) / tile));
  return {rows, columns: Math.max(1, Math.ceil((keys.count - first) / rows)), first};
}

function cellName(view, {row, column}) {
  const record = recordOf(view.data.maps[row]);
  const title = record?.titles[column] ?? "";
  if (view.data.columns) return [view.data.rows[row], view.data.columns[column]].filter(Boolean).join(", ");
  return title || view.data.rows[row];
}

const tilesView = {
  wide: true,
  at(view, px, py) {
    if (!view.context) return null;
    const boxes = tileBoxes(view);
    const {tile} = boxes;
    const at = boxes.cells.findIndex(({x, y}) => px >= x && px < x + tile && py >= y && py < y + tile);
    if (at < 0) return null;
    const cell = boxes.cells[at];
    const record = recordOf(view.data.maps[cell.row]);
    return {at, row: cell.row, column: cell.column, ...this.inside(view, boxes, cell, record, px, py)};
  },

  // Which token the pointer is on, inside a tile.
  inside(view, boxes, cell, record, px, py) {
    if (!record) return {};
    const [x, y, w, h] = inner(view, boxes, cell, record);
    const u = (px - x) / w;
    const v = (py - y) / h;
    if (!inRows(view, record)) return {token: Math.floor(v * record.queries.count)};
    if (u < 0) return {token: Math.floor(v * record.keys.prefix)};
    const {rows, columns, first} = cellsOf(view, record.keys, boxes.tile);
    const token = first + Math.floor(v * rows) * columns + Math.floor(u * columns);
    return token < record.keys.count ? {token} : {};
  },

  move(view, hit, [down, right]) {
    const boxes = tileBoxes(view);
    const from = hit?.at ?? this.selectedAt(view, boxes);
    const to = hit || view.selected ? from + right + down * boxes.across : from;
    const at = to >= 0 && to < boxes.cells.length ? to : from;
    return {at, row: boxes.cells[at].row, column: boxes.cells[at].column};
  },
  selectedAt(view, {cells}) {
    return Math.max(
      0,
      cells.findIndex(({row, column}) => row === view.selected?.[0] && column === view.selected?.[1]),
    );
  },
  places(view, {row, token}) {
    const record = recordOf(view.data.maps[row]);
    const tokens = record?.square ? record.queries : record?.keys;
    return {query: tokens ? placeOf(tokens, token) : null, key: null};
  },
  pick(view, {row, column}) {
    view.selected = [row, column];
    view.count += 1;
    view.send("pick", {tokens: view.selected, count: view.count});
    schedule(view);
    scheduleLinked(view);
  },

  where(view, at) {
    const {cells, tile} = tileBoxes(view);
    return [cells[at].x, cells[at].y, tile, tile];
  },

  paint(view) {
    const {data} = view;
    const boxes = tileBoxes(view);
    const {first} = boxes;
    const records = data.maps.map(recordOf);
    const overview = recordOf(data.tiles);
    if (!first && !overview) return null;
    const queries = first ? active(view, first.square ? first.queries : first.keys) : [];
    const shared = data.shared && inRows(view, first);
    const fixed = shared ? commonScale(records.filter(Boolean), queries, data.scale, data.hide_special) : null;
    resize(view, boxes.bottom);
    view.began = performance.now();
    this.names(view, boxes);
    const {scale: name, hide_special: drop, row_range: rowRange, mass} = data;
    const flat = wholeRange(view);
    const colours = recordOf(data.picture) && isLight(data, first?.signed) ? "gray" : data.colours;
    const options = {name, colours, drop, fixed, rowRange, mass};
    const atlas = atlasOf(view, boxes, records);
    let scale = fixed;
    for (const [at, cell] of boxes.cells.entries()) {
      const record = hasMap(records[cell.row], cell.column) ? records[cell.row] : null;
      const rows = inRows(view, record) && (queries.length || !record.square);
      const even = flat && isEven(view, cell) ? {...options, fixed: fixed ?? flat} : options;
      cell.painted = rows ? paintRow(record, cell.column, queries, even) : null;
      if (rows)
        fillCell(atlas, at, this.cover(view, record, cell.painted), cellsOf(view, record.keys, boxes.tile).first);
      const own = cell.painted?.scale ?? this.whole(view, boxes, cell, record, even, overview);
      if (own && (fixed || own !== flat)) scale = own;
    }
    this.rows(view, boxes, records, atlas);
    this.marks(view, boxes, records, queries);
    return this.words(view, records, queries, {scale, fixed, colours});
  },

  // What is painted of a row, as it lies over a picture where there is one.
  cover(view, {signed}, {table, index}) {
    if (!recordOf(view.data.picture)) return {table, index};
    return {table: veilOf(view, table, signed), index: litSteps(view.data, index, signed)};
  },

  // A cell that shows a whole map, or nothing yet.
  whole(view, boxes, cell, record, options, overview) {
    const {context, ink} = view;
    const {tile} = boxes;
    const {name, colours, drop, fixed} = options;
    const late = performance.now() - view.began > FRAME; // the others come with the next frames
    let whole =
      record && !inRows(view, record) ? matrixImage(record, cell.column, name, colours, drop, late, fixed) : null;
    if (late && record && !whole) schedule(view);
    if (!whole && overview && view.data.mode === "matrix") whole = overviewImage(view, overview, cell, options);
    context.imageSmoothingEnabled = Boolean(whole && whole.part[2] > tile * view.ratio);
    context.imageSmoothingQuality = "medium";
    if (whole && record?.hasMasked) drawHatch(view, [cell.x, cell.y, tile, tile]);
    if (whole) context.drawImage(whole.image, ...whole.part, cell.x, cell.y, tile, tile);
    else {
      context.fillStyle = ink.second;
      context.fillRect(cell.x, cell.y, tile, tile);
    }
    return whole?.scale;
  },

  // All cells that show a row, from one atlas: one upload to the canvas, however many heads.
  rows(view, boxes, records, atlas) {
    const {context} = view;
    const picture = recordOf(view.data.picture);
    if (atlas) atlas.context.putImageData(atlas.data, 0, 0);
    for (const [at, cell] of boxes.cells.entries()) {
      if (!cell.painted) continue;
      const record = records[cell.row];
      const box = inner(view, boxes, cell, record);
      const {prefix} = record.keys;
      const {table, index} = cell.painted;
      context.imageSmoothingEnabled = true;
      const grey = !isLight(view.data, record.signed);
      if (picture) context.drawImage(grey ? greyOf(picture, picture.network, true) : picture.network, ...box);
      context.imageSmoothingEnabled = false;
      if (record.hasMasked) drawHatch(view, ...maskedBoxes(index, cellsOf(view, record.keys, boxes.tile), box));
      context.drawImage(atlas.canvas, ...atlas.place(at), ...box);
      for (let i = 0; barOf(view, record) && i < prefix; i++) {
        const bar = [cell.x, cell.y + (i * boxes.tile) / prefix, BAR - 1, boxes.tile / prefix];
        if (index[i] < 0) drawHatch(view, bar);
        else {
          context.fillStyle = css(table[index[i]]);
          context.fillRect(...bar);
        }
      }
    }
  },

  names(view, boxes) {
    const {context, ink, data} = view;
    const {tile} = boxes;
    context.font = `12px ${ink.font}`;
    context.fillStyle = ink.text;
    if (!boxes.titled) {
      data.columns.forEach((name, i) => context.fillText(name, boxes.cells[i].x, HEADER - 8, tile));
    }
    if (!data.order) {
      data.rows.forEach((name, i) => {
        const cell = boxes.cells[i * boxes.across];
        if (cell) context.fillText(name, 0, cell.y + tile / 2 + 4);
      });
    }
    if (boxes.titled)
      for (const cell of boxes.cells) context.fillText(cellName(view, cell), cell.x, cell.y + tile + 13, tile);
    drawBadges(view, boxes);
  },

  marks(view, boxes, records, queries) {
    const {context, ink} = view;
    const {tile} = boxes;
    for (const cell of boxes.cells) {
      const record = records[cell.row];
      if (!record) continue;
      const box = inner(view, boxes, cell, record);
      const rows = inRows(view, record);
      const on = rows ? record.keys : record.queries;
      const lying = rows ? cellsOf(view, on, tile) : null;
      for (const token of queries) markSmall(context, box, on, token, lying);
    }
    const frame = ({x, y}, colour) => outline(context, [x - 2, y - 2, tile + 4, tile + 4], colour, 2);
    for (const cell of boxes.cells) {
      if (view.selected?.[0] === cell.row && view.selected?.[1] === cell.column) frame(cell, PICKED);
    }
    const under = boxes.cells[view.hit?.at];
    if (under) frame(under, ink.query);
  },

  words(view, records, queries, {scale, fixed, colours}) {
    const {data, hit} = view;
    const record = hit ? records[hit.row] : records.find(Boolean);
    const legend = record && scale ? {scale, unit: record.unit, table: tableOf(colours, record.signed)} : null;
    if (legend) {
      const range = fixed ? "colour scale: shared" : "colour scale: per map";
      const left = data.hide_special && isShare(record) ? `; ${specialWords(record.keys)} left out, rest rescaled` : "";
      const held = data.mass == null ? "" : `; ${massNote(data)}`;
      const even = !fixed && badgesOf(view).some((badge) => badge.even) ? "; even heads: 0 to 100 %" : "";
      legend.note = range + even + held + left + (record.hasMasked ? `; ${maskNote(record)}` : "");
      const unsigned = data.row_range ? "min" : "0";
      const low = record.signed ? "−max" : unsigned;
      if (!fixed) Object.assign(legend, {low, high: "max"});
    }
    if (!hit || !hasMap(record, hit.column)) return {sentence: this.idle(view, record, queries), legend};
    const badge = badgeOf(view, hit);
    const name = cellName(view, hit) + (badge ? ` (${badge.title})` : "");
    const told = badge ? `${name}\n${badge.sentence}` : name;
    if (!queries.length && record.square)
      return {sentence: told.replaceAll("\n", ". "), tip: told, tipAt: view.pointer, legend};
    const over = record.square ? null : hovered(record.keys);
    const {sentence} = rowWords(record, hit.column, queries, data.hide_special, over);
    return {sentence: `${name}: ${sentence}`, tip: `${told}\n${sentence}`, tipAt: view.pointer, legend};
  },

  idle(view, record, queries) {
    if (!record) return "Loading the maps";
    if (!record.square || record.map_type === "relevance") return view.data.label;
    if (!queries.length)
      return view.data.mode === "matrix"
        ? "Every map whole: rows are queries, columns are keys"
        : `Point at or tap a ${record.keys.grid ? "patch" : "word"} to see what it attends to in every head`;
    const who = queries.length === 1 ? fullName(record.queries, queries[0]) : `${queries.length} selected tokens`;
    return view.data.mode === "matrix"
      ? `The line marks ${who} as the query`
      : `What ${who} attends to in each head; click a map to open it`;
  },
};

// A token inside a small tile: a dot where cells are `lying` as on a page, a line for a row of a matrix.
function markSmall(context, [x, y, w, h], tokens, token, lying) {
  const {rows, columns, first} = lying ?? {rows: tokens.count, columns: 1, first: 0};
  const at = token - first;
  if (at < 0 || token >= tokens.count) return;
  const [tall, wide] = [h / rows, w / columns];
  const [row, column] = [Math.floor(at / columns), at % columns];
  outline(context, [x + column * wide - 0.5, y + row * tall - 0.5, wide + 1, tall + 1], PICKED, 1);
}

// One small canvas for the rows of all cells of a view, kept from paint to paint; null where nothing is there yet.
function atlasOf(view, {cells, across, tile}, records) {
  const keys = records.find(Boolean)?.keys;
  if (!keys) return null;
  const {rows, columns} = cellsOf(view, keys, tile);
  const width = across * columns;
  const height = Math.ceil(cells.length / across) * rows;
  if (view.atlas?.canvas.width !== width || view.atlas.canvas.height !== height || view.atlas.columns !== columns) {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", {willReadFrequently: true});
    const data = context.createImageData(width, height);
    const place = (at) => [(at % across) * columns, Math.floor(at / across) * rows, columns, rows];
    view.atlas = {canvas, context, data, out: new Uint32Array(data.data.buffer), place, columns, rows, width};
  }
  return view.atlas;
}

// What is masked stays empty: the hatch lies there.
function fillCell({out, place, columns, rows, width}, at, {table, index}, first) {
  const [left, top] = place(at);
  for (let i = 0; i < rows * columns; i++) {
    const step = index[first + i] ?? -1;
    const empty = step === -2 ? MASKED : 0;
    out[(top + Math.floor(i / columns)) * width + left + (i % columns)] = step < 0 ? empty : table[step];
  }
}

// A block-mean tile of the overview: a part of one image of them all, kept with its record.
function overviewImage(view, record, {row, column}, {name, colours}) {
  const [layers, heads] = record.shape;
  const tiles = imagesOf(record, [name, colours, evenCells(view)].join());
  if (row >= layers || column >= heads) return null;
  if (!tiles.size) paintOverview(view, record, tiles, name, tableOf(colours, false));
  return tiles.get(row * heads + column);
}

function paintOverview(view, record, tiles, name, table) {
  const [layers, heads, size] = record.shape;
  const cells = size * size;
  const wide = heads * size;
  const image = pixels(wide, layers * size, (out) => {
    for (let at = 0; at < layers * heads; at++) {
      const start = at * cells;
      const part = [(at % heads) * size, Math.floor(at / heads) * size, size, size];
      const units = [record.peaks[0][at] / record.top];
      const even = isEven(view, {row: Math.floor(at / heads), column: at % heads});
      const scale = even
        ? wholeRange(view)
        : makeScale(name, ofBytes(record.cells, start, start + cells, units), false);
      const of = stepsOfBytes(record, units, scale);
      for (let i = 0; i < cells; i++) {
        out[(part[1] + Math.floor(i / size)) * wide + part[0] + (i % size)] = table[of(record.cells[start + i])];
      }
      tiles.set(at, {scale, part});
    }
  });
  for (const tile of tiles.values()) tile.image = image;
}
