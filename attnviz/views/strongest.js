// The strongest entries of maps with millions of cells: bytes are counted row by row, and nothing is sorted but what is
// drawn.

const BINS = 65536;
const counted = new Uint32Array(256); // how often each byte stands in a row; used again for every row

// Every entry that the limits let through, weakest first, as [weight, query, key, head]: at most `count`, and how many
// there are. `queries`: all if empty; `key`: only this one. Limits: `least` weight, `most` keys of a row (0: all), the
// share `mass` of a row that its shown keys together reach, and `drop`: without what stands aside, the rest rescaled.
function strongestOf(record, heads, {queries = [], key = null}, limits, count) {
  const rows = rowsOf(record, heads, queries, limits.drop), out = limits.drop ? record.keys.aside : [];
  const top = rows.reduce((most, {unit}) => Math.max(most, unit), 0) * record.top, bins = new Uint32Array(BINS);
  const binOf = (byte, unit) => Math.min(BINS - 1, Math.floor((((byte - record.zero) * unit) / top) * BINS));
  let total = 0, bin = BINS - 1, above = 0; // the bin of the weakest that are shown, and how many lie above it
  for (const row of rows) {
    Object.assign(row, cutOf(record, row, limits, out));
    if (key != null) onlyKey(record, row, key, out);
    for (let byte = row.byte; byte < 256; byte++) {
      if (!counted[byte]) continue;
      const many = byte === row.byte ? Math.min(counted[byte], row.ties) : counted[byte];
      bins[binOf(byte, row.unit)] += many;
      total += many;
    }
  }
  while (bin > 0 && above + bins[bin] < count) above += bins[bin--];
  let rest = count - above; // that bin may hold more than fit, where many weights are the same
  const shown = [];
  const {cells, zero, keys} = record, least = (bin / BINS) * top;
  for (const {start, unit, head, query, byte: cut, ties: equal} of rows) {
    if (binOf(255, unit) < bin) continue;
    const byte = Math.max(cut, Math.floor(least / unit) + zero); // no byte below it reaches the bin
    let ties = byte > cut ? Infinity : equal;
    for (let k = 0; k < keys.count; k++) {
      const cell = cells[start + k];
      if (cell < byte || out[k] || (cell === byte && ties-- <= 0) || (key != null && k !== key)) continue;
      const own = binOf(cell, unit);
      if (own > bin || (own === bin && rest-- > 0)) shown.push([(cell - zero) * unit, query, k, head]);
    }
  }
  shown.sort((a, b) => a[0] - b[0]);
  return {shown, total};
}

// The same, remembered by a view for nothing chosen and for what it was asked last: a repaint must not look at every
// cell again.
function keptStrongest(view, record, heads, asked, limits, count) {
  const stamp = [heads, ...Object.values(limits)].join("|"), which = `${asked.queries}|${asked.key}`;
  if (view.kept?.record !== record || view.kept.stamp !== stamp) view.kept = {record, stamp};
  const name = asked.queries.length || asked.key != null ? "asked" : "all";
  if (view.kept[name]?.which !== which) view.kept[name] = {which, ...strongestOf(record, heads, asked, limits, count)};
  return view.kept[name];
}

// The rows that are asked about and hold anything: where each starts, and the weight of one step of a byte.
function rowsOf(record, heads, queries, drop) {
  const asked = queries.length ? queries : Array.from({length: record.queries.count}, (_, i) => i), rows = [];
  for (const head of heads) {
    for (const query of asked) {
      const row = rowIndex(record, head, query), unit = (record.peaks[row] / record.top) * factorOf(record, row, drop);
      if (unit > 0) rows.push({row, head, query, unit, start: row * record.keys.count});
    }
  }
  return rows;
}

// The smallest byte of a row that is shown, and how many keys with just that byte: the first ones. Leaves the counts.
function cutOf({cells, keys, zero, sums}, {row, unit, start}, {least, most, mass}, out) {
  counted.fill(0);
  for (let k = 0; k < keys.count; k++) if (!out[k]) counted[cells[start + k]]++;
  const byte = Math.max(zero + 1, Math.ceil(least / unit - 1e-4) + zero);
  if (!most && mass >= 1) return {byte, ties: Infinity};
  let room = most || Infinity, share = mass < 1 ? mass * sums[row] : Infinity;
  for (let at = 255; at >= byte; at--) {
    if (!counted[at]) continue;
    const weight = (at - zero) * unit, take = Math.min(counted[at], room, Math.ceil(share / weight - 1e-4));
    room -= take;
    share -= take * weight;
    if (take < counted[at] || room <= 0 || share <= 1e-9) return {byte: at, ties: take};
  }
  return {byte, ties: Infinity};
}

// Of the counts of a row, those of one key.
function onlyKey({cells}, {start, byte, ties}, key, out) {
  const cell = cells[start + key];
  let before = 0;
  for (let k = 0; k < key; k++) if (cells[start + k] === byte && !out[k]) before++;
  counted.fill(0);
  if (!out[key] && (cell > byte || (cell === byte && before < ties))) counted[cell] = 1;
}
