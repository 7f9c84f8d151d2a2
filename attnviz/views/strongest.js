// The strongest entries of maps with millions of cells: bytes are counted row by row, and nothing is sorted but what is
// drawn.

const BINS = 65536;
const counted = [new Uint32Array(256), new Uint32Array(256)]; // how often each byte stands in either part of a row

// Every entry that the limits let through, weakest first, as [weight, query, key, head]: at most `count`, and how many
// there are. `queries`: all if empty; `key`: only this one. Limits: `minWeight`, `topK` keys of a row (0: all), the share
// `topP` of a row that its shown keys together reach, and `drop`: without what is special, the rest rescaled.
function strongestOf(record, heads, {queries = [], key = null}, limits, count) {
  const rows = rowsOf(record, heads, queries, limits.drop);
  const {
    cells,
    zero,
    keys: {special, count: keys},
  } = record;
  const top = rows.reduce((most, {units}) => Math.max(most, ...units), 0) * record.top;
  const bins = new Uint32Array(BINS);
  const binOf = (byte, unit) => Math.min(BINS - 1, Math.floor((((byte - zero) * unit) / top) * BINS));
  // the bin of the weakest that are shown, and how many lie above it
  let total = 0;
  let bin = BINS - 1;
  let above = 0;
  for (const row of rows) {
    row.cuts = cutsOf(record, row, limits);
    if (key != null) onlyKey(record, row, key);
    for (const [part, cut] of row.cuts.entries()) {
      for (let {byte} = cut; byte < 256; byte++) {
        if (!counted[part][byte]) continue;
        const many = byte === cut.byte ? Math.min(counted[part][byte], cut.ties) : counted[part][byte];
        bins[binOf(byte, row.units[part])] += many;
        total += many;
      }
    }
  }
  while (bin > 0 && above + bins[bin] < count) {
    above += bins[bin];
    bin -= 1;
  }
  let rest = count - above; // that bin may hold more than fit, where many weights are the same
  const shown = [];
  const least = (bin / BINS) * top;
  for (const {start, units, head, query, cuts} of rows) {
    if (binOf(255, Math.max(...units)) < bin) continue;
    const lows = cuts.map(({byte}, part) =>
      byte > 255 ? byte : Math.max(byte, Math.floor(least / units[part]) + zero),
    );
    const ties = cuts.map((cut, part) => (lows[part] > cut.byte ? Infinity : cut.ties));
    for (let k = 0; k < keys; k++) {
      const cell = cells[start + k];
      const part = special[k];
      if (cell < lows[part]) continue;
      if (cell === lows[part]) {
        ties[part] -= 1;
        if (ties[part] < 0) continue;
      }
      if (key != null && k !== key) continue;
      const own = binOf(cell, units[part]);
      if (own < bin) continue;
      if (own === bin) {
        rest -= 1;
        if (rest < 0) continue;
      }
      shown.push([(cell - zero) * units[part], query, k, head]);
    }
  }
  shown.sort((a, b) => a[0] - b[0]);
  return {shown, total};
}

// The same, remembered by a view for nothing chosen and for what it was asked last: a repaint must not look at every
// cell again.
function keptStrongest(view, record, heads, asked, limits, count) {
  const stamp = [heads, ...Object.values(limits)].join("|");
  const which = `${asked.queries}|${asked.key}`;
  if (view.kept?.record !== record || view.kept.stamp !== stamp) view.kept = {record, stamp};
  const name = asked.queries.length || asked.key != null ? "asked" : "all";
  if (view.kept[name]?.which !== which) view.kept[name] = {which, ...strongestOf(record, heads, asked, limits, count)};
  return view.kept[name];
}

// The rows that are asked about and hold anything: where each starts, and the weight of one step of a byte in each part.
function rowsOf(record, heads, queries, drop) {
  const asked = queries.length ? queries : Array.from({length: record.queries.count}, (_, i) => i);
  const rows = [];
  for (const head of heads) {
    for (const query of asked) {
      const row = rowIndex(record, head, query);
      const units = unitsOf(record, row, drop);
      if (Math.max(...units) > 0) rows.push({row, head, query, units, start: row * record.keys.count});
    }
  }
  return rows;
}

// For each part of a row the smallest byte that is shown, and how many keys with just that byte: the first ones. Leaves
// the counts.
function cutsOf(record, row, {minWeight, topK, topP}) {
  const {
    cells,
    keys: {special, count},
    zero,
  } = record;
  const {units, start} = row;
  for (const part of counted) part.fill(0);
  for (let k = 0; k < count; k++) counted[special[k]][cells[start + k]]++;
  const lowest = (unit) => (unit > 0 ? Math.max(zero + 1, Math.ceil(minWeight / unit - 1e-4) + zero) : 256);
  const cuts = units.map((unit) => ({byte: lowest(unit), ties: Infinity}));
  let room = topK || Infinity;
  let share = topP < 1 ? topP * record.sums[row.row] : Infinity;
  const at = [255, 255]; // down both parts at once, the larger weight first
  while (room < Infinity || share < Infinity) {
    const weights = at.map((byte, part) => {
      while (byte >= cuts[part].byte && !counted[part][byte]) byte--;
      at[part] = byte;
      return byte >= cuts[part].byte ? (byte - zero) * units[part] : 0;
    });
    const weight = Math.max(...weights);
    const level = weights.map((own) => own === weight); // seldom both parts
    if (!weight) break;
    const many = at.reduce((sum, byte, part) => sum + (level[part] ? counted[part][byte] : 0), 0);
    const take = Math.min(many, room, Math.ceil(share / weight - 1e-4));
    room -= take;
    share -= take * weight;
    if (take < many || room <= 0 || share <= 1e-9) return lastTaken(record, start, at, level, take);
    for (const part of [0, 1]) if (level[part]) at[part]--;
  }
  return cuts;
}

// The cuts where only the first `take` of the keys that are level with the last weight are shown.
function lastTaken({cells, keys: {special, count}}, start, at, level, take) {
  const ties = [0, 0];
  for (let k = 0, left = take; k < count && left > 0; k++) {
    if (!level[special[k]] || cells[start + k] !== at[special[k]]) continue;
    ties[special[k]]++;
    left--;
  }
  return at.map((byte, part) => (level[part] ? {byte, ties: ties[part]} : {byte: byte + 1, ties: Infinity}));
}

// Of the counts of a row, those of one key.
function onlyKey({cells, keys: {special}}, {start, cuts}, key) {
  const cell = cells[start + key];
  const part = special[key];
  const {byte, ties} = cuts[part];
  let before = 0;
  for (let k = 0; k < key; k++) if (cells[start + k] === byte && special[k] === part) before++;
  for (const counts of counted) counts.fill(0);
  if (cell > byte || (cell === byte && before < ties)) counted[part][cell] = 1;
}
