// The strongest entries of maps with millions of cells: every row by its bytes, all rows by a histogram, nothing sorted
// but what is drawn.

const BINS = 65536;

// Every entry that the limits let through, weakest first, as [weight, query, key, head]: at most `count`, and how many
// there are. `queries`: all if empty; `key`: only this one. Limits: `least` weight, `most` keys of a row (0: all), the
// share `mass` of a row that its shown keys together reach, and `drop`: without what stands aside, the rest rescaled.
function strongestOf(record, heads, {queries = [], key = null}, limits, count) {
  const rows = queries.length ? queries : Array.from({length: record.queries.count}, (_, i) => i);
  let top = 0, total = 0;
  const bins = new Uint32Array(BINS), row = (head, query) => rowIndex(record, head, query);
  for (const head of heads) for (const query of rows) top = Math.max(top, peakOf(record, row(head, query), limits.drop));
  const binOf = (weight) => Math.min(BINS - 1, Math.floor((weight / top) * BINS));
  const each = (visit) => {
    for (const head of heads) for (const query of rows) entriesOf(record, row(head, query), key, limits, (k, weight) => {
      visit(weight, query, k, head);
    });
  };
  each((weight) => {
    bins[binOf(weight)]++;
    total++;
  });
  let bin = BINS - 1, above = 0; // the bin that the last of the strongest fall into, and how many are above it
  while (bin > 0 && above + bins[bin] < count) above += bins[bin--];
  let rest = count - above; // that bin may hold more than fit, where many weights are the same
  const shown = [];
  each((weight, query, k, head) => {
    const own = binOf(weight);
    if (own > bin || (own === bin && rest-- > 0)) shown.push([weight, query, k, head]);
  });
  shown.sort((a, b) => a[0] - b[0]);
  return {shown, total};
}

function peakOf(record, row, drop) {
  return record.peaks[row] * factorOf(record, row, drop);
}

// The entries of one row that the limits let through.
function entriesOf(record, row, key, limits, visit) {
  const {cells, zero} = record, count = record.shape.at(-1), start = row * count;
  const unit = peakOf(record, row, limits.drop) / record.top, out = limits.drop ? record.keys.aside : [];
  if (!(unit > 0)) return;
  let {byte, ties} = cutOf(record, row, unit, limits, out);
  for (let k = 0; k < count; k++) {
    const cell = cells[start + k];
    if (cell < byte || out[k] || (cell === byte && ties-- <= 0)) continue;
    if (key == null || key === k) visit(k, (cell - zero) * unit);
  }
}

const counted = new Uint32Array(256);

// The smallest byte of a row that is shown, and how many keys with just that byte: the first ones.
function cutOf({cells, zero, sums, shape}, row, unit, {least, most, mass}, out) {
  let byte = Math.max(zero + 1, Math.ceil(least / unit - 1e-4) + zero), ties = Infinity;
  if (!most && mass >= 1) return {byte, ties};
  counted.fill(0);
  const count = shape.at(-1), start = row * count;
  for (let k = 0; k < count; k++) if (!out[k]) counted[cells[start + k]]++;
  let room = most || Infinity, share = mass < 1 ? mass * sums[row] : Infinity;
  for (let at = 255; at >= byte; at--) {
    if (!counted[at]) continue;
    const weight = (at - zero) * unit, take = Math.min(counted[at], room, Math.ceil(share / weight - 1e-4));
    room -= take;
    share -= take * weight;
    if (take === counted[at] && room > 0 && share > 1e-9) continue;
    return {byte: at, ties: take};
  }
  return {byte, ties};
}
