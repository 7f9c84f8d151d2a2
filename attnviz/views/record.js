// Records: opening what the transport brought, and reading rows out of it.

// The record of this name, or null while it is still on its way. While a new one is being opened the one before is shown,
// so that nothing blinks.
function recordOf(name) {
  const record = name == null ? null : shared.records.get(name);
  if (!record) {
    shared.opened.delete(name);
    return null;
  }
  if (record.ready) return record;
  const before = shared.opened.get(name);
  return before && before.type === record.type ? before : null;
}

async function openRecord(record) {
  const packed = new Response(record.packed).body; // a Blob would make a detour through another process
  const buffer = await new Response(packed.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  await READERS[record.type](record, buffer);
  record.packed = null;
  record.ready = true;
  record.images = new Map(); // see imagesOf
  if (shared.records.get(record.name) !== record) return; // a newer one came meanwhile
  shared.opened.set(record.name, record);
  signal("record", record.name);
}

const READERS = {
  maps(record, buffer) {
    const rows = record.shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const floats = (at) => new Float32Array(buffer, 4 * at * rows, rows);
    record.peaks = [floats(0), floats(1)]; // of the keys that stay, and of the special ones
    [record.sums, record.rests] = [floats(2), floats(3)]; // of all keys, and of those that stay
    record.best = [0, 1].map((at) => new Uint16Array(buffer, (16 + 2 * at) * rows, rows)); // likewise
    record.square = record.shape.length === 3; // [map query key] in bytes, else [map key] as they are
    record.cells = record.square ? new Uint8Array(buffer, 20 * rows) : new Float32Array(buffer, 20 * rows);
    record.holes = record.signed || record.masked; // then byte 0 is masked
    // The byte that stands for 0, and `top` above it for a peak.
    const unsigned = record.holes ? [1, 254] : [0, 255];
    [record.zero, record.top] = record.signed ? [128, 127] : unsigned;
    record.hasMasked = record.square ? record.holes && record.cells.includes(0) : record.cells.includes(NaN);
    markSpecial(record.keys);
    markSpecial(record.queries);
  },
  tiles(record, buffer) {
    const count = record.shape[0] * record.shape[1];
    record.peaks = [new Float32Array(buffer, 0, count)];
    record.cells = new Uint8Array(buffer, 4 * count);
    Object.assign(record, {zero: 0, top: 255}); // as of maps
  },
  colours(record, buffer) {
    record.rgb = new Uint8Array(buffer);
  },
  async picture(record, buffer) {
    const [first, second] = record.parts;
    const [own, seen] = record.types;
    const cut = (start, size, type) => createImageBitmap(new Blob([new Uint8Array(buffer, start, size)], {type}));
    record.picture = await cut(0, first, own);
    record.network = await cut(first, second, seen);
  },
};

// Called by the transport for each record that arrives; those that came before the library are opened now.
shared.open = (record) => (record.opening ??= openRecord(record));
for (const record of shared.records.values()) shared.open(record);

// Tokens that can be left out: the prefix, and special tokens of a text. `lead` of them come first.
function markSpecial(tokens) {
  tokens.special = Uint8Array.from({length: tokens.count}, (_, i) => i < tokens.prefix || tokens.words?.[i] < 0);
  tokens.lead = tokens.special.indexOf(0) < 0 ? tokens.count : tokens.special.indexOf(0);
}

function clearSpecial({special}, row) {
  for (let i = 0; i < row.length; i++) if (special[i]) row[i] = NaN;
}

// Which row of cells: map and query, or the map alone.
function rowIndex(record, map, query) {
  return record.square ? map * record.shape[1] + query : map;
}

function hasMap(record, map) {
  return record?.type === "maps" && map >= 0 && map < record.shape[0];
}

// Whether the columns of a row are parts of one whole, some of them special.
function isShare({keys, unit, signed, map_type}) {
  return keys.special.includes(1) && unit === "percent" && !signed && map_type !== "received weights";
}

// What a row is multiplied by once what is special is dropped: the rest takes over the whole.
function factorOf(record, row, drop) {
  if (!drop || !isShare(record)) return 1;
  return record.rests[row] > 1e-12 ? record.sums[row] / record.rests[row] : 0;
}

// What one step of a byte stands for in a row: among the keys that stay, and among special ones (0 if they are dropped).
function unitsOf(record, row, drop) {
  const [stay, special] = record.peaks;
  const {top} = record;
  return [(stay[row] / top) * factorOf(record, row, drop), drop ? 0 : special[row] / top];
}

// One cell of a square map as the number it stands for; NaN where masked. `units`: of its row.
function valueOf(record, row, key, units) {
  const cell = record.cells[row * record.shape.at(-1) + key];
  if (record.holes && !cell) return NaN;
  return (cell - record.zero) * units[record.keys.special[key]];
}

// How rows of several selected tokens are put together: shares add up, other numbers are averaged.
function togetherWord(record) {
  return record.unit === "percent" ? "sum" : "mean";
}

// Some rows of one map put together, as numbers [key]; NaN where dropped, or masked for all of the rows.
function togetherRow(record, map, queries, drop) {
  const count = record.shape.at(-1);
  const total = new Float32Array(count);
  const {
    cells,
    holes,
    zero,
    keys: {special},
  } = record;
  if (!record.square) {
    const factor = factorOf(record, map, drop);
    for (let key = 0; key < count; key++) total[key] = record.cells[map * count + key] * factor;
    if (drop) clearSpecial(record.keys, total);
    return total;
  }
  const allowed = new Uint16Array(count); // queries that may attend to a key
  for (const query of queries) {
    const row = rowIndex(record, map, query);
    const units = unitsOf(record, row, drop);
    for (let key = 0, at = row * count; key < count; key++, at++) {
      if (holes && cells[at] === 0) continue;
      total[key] += (cells[at] - zero) * units[special[key]];
      allowed[key]++;
    }
  }
  const mean = togetherWord(record) === "mean";
  for (let key = 0; key < count; key++) if (!allowed[key] || mean) total[key] /= allowed[key]; // 0 / 0: NaN
  if (drop) clearSpecial(record.keys, total);
  return total;
}

// How much of the shown rows went to what was dropped, as a share; null where that means nothing.
function droppedShare(record, map, queries) {
  if (!isShare(record)) return null;
  const rows = record.square ? queries.map((query) => rowIndex(record, map, query)) : [map];
  if (!rows.length) return null;
  const share = rows.map((row) => (record.sums[row] > 0 ? 1 - record.rests[row] / record.sums[row] : 0));
  return share.reduce((a, b) => a + b, 0) / rows.length;
}

// The key with most in some rows put together, of `values` as togetherRow gives them; -1 where there is none. Of one row
// Python has said which it is: bytes cannot tell two apart that are almost alike.
function bestKey(record, map, queries, values, drop) {
  const best =
    record.square && queries.length === 1 ? record.best[drop ? 1 : 0][rowIndex(record, map, queries[0])] : -1;
  return values[best] === values[best] && best >= 0 ? best : strongest(values);
}

// The same as Python has worked it out for the tokens it knows as selected, or null where something else is shown.
function bestNamed({data, maps, index}, queries) {
  return maps === data.maps && index === data.index && String(queries) === String(data.tokens) ? data.best : null;
}

function strongest(values) {
  let best = -1;
  for (let i = 0; i < values.length; i++) if (values[i] === values[i] && !(values[i] <= values[best])) best = i;
  return best;
}
