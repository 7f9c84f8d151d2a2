// Records: opening what the bus brought, and reading rows out of it.

// The record of a slot, or null while it is still on its way. A new record is opened in the background, and until then
// the one before is shown, so that nothing blinks.
function recordOf(slot) {
  const record = slot == null ? null : shared.records.get(slot);
  if (!record) {
    shared.opened.delete(slot);
    return null;
  }
  if (record.ready) return record;
  record.opening ??= openRecord(record);
  const before = shared.opened.get(slot);
  return before && before.type === record.type ? before : null;
}

async function openRecord(record) {
  const stream = new Blob([record.packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  await READERS[record.type](record, buffer);
  record.packed = null;
  record.ready = true;
  record.images = new Map(); // painted maps, by what they were painted with
  if (shared.records.get(record.slot) !== record) return; // a newer one came meanwhile
  shared.opened.set(record.slot, record);
  signal("record", record.slot);
}

const READERS = {
  maps(record, buffer) {
    const rows = record.shape.slice(0, -1).reduce((a, b) => a * b, 1);
    record.peaks = new Float32Array(buffer, 0, rows);
    record.sums = new Float32Array(buffer, 4 * rows, rows);
    record.shares = new Float32Array(buffer, 8 * rows, rows); // of the prefix
    record.square = record.shape.length === 3; // [map query key] in bytes, else [map key] as they are
    record.cells = record.square ? new Uint8Array(buffer, 12 * rows) : new Float32Array(buffer, 12 * rows);
    record.top = record.signed ? 127 : 255;
  },
  tiles(record, buffer) {
    const count = record.shape[0] * record.shape[1];
    record.peaks = new Float32Array(buffer, 0, count);
    record.cells = new Uint8Array(buffer, 4 * count);
  },
  colours(record, buffer) {
    record.rgb = new Uint8Array(buffer);
  },
  async picture(record, buffer) {
    const [jpeg, png] = record.parts;
    const cut = (start, size, type) => createImageBitmap(new Blob([new Uint8Array(buffer, start, size)], {type}));
    record.picture = await cut(0, jpeg, "image/jpeg");
    record.network = await cut(jpeg, png, "image/png");
  },
};

// Which row of cells: map and query, or the map alone.
function rowIndex(record, map, query) {
  return record.square ? map * record.shape[1] + query : map;
}

function hasMap(record, map) {
  return record?.type === "maps" && map >= 0 && map < record.shape[0];
}

// Whether the columns of a row are parts of one whole, some of them prefix.
function isShare({keys, unit, signed, kind}) {
  return keys.prefix > 0 && unit === "percent" && !signed && kind !== "received weights";
}

// What a row is multiplied by once the prefix is dropped: the rest takes over the whole.
function factorOf(record, row, drop) {
  if (!drop || !isShare(record)) return 1;
  const rest = record.sums[row] - record.shares[row];
  return rest > 1e-9 ? record.sums[row] / rest : 0;
}

// One cell of a square map as the number it stands for; NaN where masked.
function valueOf(record, row, key, factor = 1) {
  const cell = record.cells[row * record.shape.at(-1) + key];
  if (record.signed) return cell ? ((cell - 128) * record.peaks[row]) / 127 : NaN;
  return ((cell * record.peaks[row]) / 255) * factor;
}

// How rows of several picked tokens are put together: shares add up, other numbers are averaged.
function togetherWord(record) {
  return record.unit === "percent" ? "sum" : "mean";
}

// Some rows of one map put together, as numbers [key]; dropped prefix columns are NaN.
function togetherRow(record, map, queries, drop) {
  const count = record.shape.at(-1), total = new Float32Array(count), {cells, signed} = record;
  if (!record.square) {
    const factor = factorOf(record, map, drop);
    for (let key = 0; key < count; key++) total[key] = record.cells[map * count + key] * factor;
    if (drop) total.fill(NaN, 0, record.keys.prefix);
    return total;
  }
  const rows = queries.map((query) => rowIndex(record, map, query));
  const shares = togetherWord(record) === "sum" ? 1 : rows.length;
  for (const row of rows) {
    const unit = (record.peaks[row] / record.top / shares) * factorOf(record, row, drop), zero = signed ? 128 : 0;
    for (let key = 0, at = row * count; key < count; key++, at++) {
      total[key] += signed && cells[at] === 0 ? NaN : (cells[at] - zero) * unit;
    }
  }
  if (drop) total.fill(NaN, 0, record.keys.prefix);
  return total;
}

// How much of the shown rows went to the dropped prefix, as a share; null where that means nothing.
function droppedShare(record, map, queries) {
  if (!isShare(record)) return null;
  const rows = record.square ? queries.map((query) => rowIndex(record, map, query)) : [map];
  if (!rows.length) return null;
  const share = rows.map((row) => (record.sums[row] > 0 ? record.shares[row] / record.sums[row] : 0));
  return share.reduce((a, b) => a + b, 0) / rows.length;
}

function strongest(values) {
  let best = -1;
  for (let i = 0; i < values.length; i++) if (values[i] === values[i] && !(values[i] <= values[best])) best = i;
  return best;
}
