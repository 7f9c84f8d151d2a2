// From numbers to colours: the shape of a distribution, the four scales, the colour tables.

// A distribution answers: max, low (smallest above 0), quantile(q), rank(v) in 0..1; of numbers also least. Signed ones
// are of magnitudes.
function ofNumbers(values, signed) {
  let max = 0;
  for (let i = 0; i < values.length; i++) if (Math.abs(values[i]) > max) max = Math.abs(values[i]);
  return ofSample(values.length, (i) => values[i], max, signed);
}

// The same of a whole map, from its bytes and from its peaks. `skip`: how many keys come first that are dropped.
function ofMap(record, map, drop, skip) {
  const [, rows, columns] = record.shape;
  const wide = columns - skip;
  const {
    top,
    keys: {special},
  } = record;
  const units = Array.from({length: rows}, (_, q) => unitsOf(record, rowIndex(record, map, q), drop));
  const max = top * units.reduce((most, [stay, out]) => Math.max(most, stay, out), 0); // each part of a row has its peak
  const value = (at) => {
    const q = Math.floor(at / wide);
    const k = skip + (at % wide);
    return drop && special[k] ? NaN : valueOf(record, rowIndex(record, map, q), k, units[q]);
  };
  return ofSample(rows * wide, value, Math.fround(max), record.signed); // rounded as the sample is
}

// A distribution from at most 16,384 of `length` numbers: `value(i)` is one of them, `max` the largest magnitude of all.
function ofSample(length, value, max, signed) {
  const size = Math.min(length, 16384);
  const sample = new Float32Array(size);
  let count = 0;
  for (let i = 0; i < size; i++) {
    // golden-ratio steps: even, and never in step with the rows of a matrix
    const taken = value(size === length ? i : Math.floor(((i * 0.6180339887) % 1) * length));
    if (taken === taken) sample[count++] = signed ? Math.abs(taken) : taken;
  }
  const sorted = sample.subarray(0, count).sort();
  const below = (v) => countBelow(sorted, Math.fround(v)); // rounded as the sample is, else a number lies above itself
  const first = below(1e-30);
  return {
    max,
    least: sorted[0] ?? 0,
    low: first < count ? sorted[first] : 0,
    quantile: (q) => (count ? sorted[Math.min(count - 1, Math.floor(q * count))] : 0),
    rank: (v) => (v > 0 && count > 1 ? Math.min(1, below(v) / (count - 1)) : 0),
  };
}

// How many of some numbers, smallest first, are smaller than one.
function countBelow(sorted, v) {
  let left = 0;
  let right = sorted.length;
  while (left < right) {
    const middle = (left + right) >> 1;
    if (sorted[middle] < v) left = middle + 1;
    else right = middle;
  }
  return left;
}

// The same from one row of bytes, by counting: 144 rows in about a millisecond. `units`: what a step stands for in either
// part of the row; `special` [cell]: in which part it is, the first if null; `zero`, `holes`: of a record.
function ofBytes(cells, start, end, units, {zero = 0, holes = false, special = null, drop = false} = {}) {
  const counts = units.map(() => new Uint32Array(256));
  for (let i = start; i < end; i++) {
    const part = special ? special[i - start] : 0;
    if (!(holes && cells[i] === 0) && !(drop && part)) counts[part][Math.abs(cells[i] - zero)]++;
  }
  const {levels, until} = levelsOf(counts, units);
  const total = until.at(-1);
  const last = levels.length - 1;
  const quantile = (q) => {
    let i = 0;
    while (i < last && until[i + 1] <= q * total) i++;
    return levels[i] ?? 0;
  };
  const rank = (v) => (v > 0 && total > 1 ? Math.min(1, until[countBelow(levels, v)] / (total - 1)) : 0);
  return {max: levels[last] ?? 0, low: levels.find((level) => level > 0) ?? 0, quantile, rank};
}

// The numbers that bytes counted in one or two parts stand for, smallest first, and how many lie below each.
function levelsOf([stay, out], [unit, other]) {
  const levels = [];
  const until = [0];
  const add = (level, count) => {
    if (!count) return;
    levels.push(level);
    until.push(until.at(-1) + count);
  };
  let a = 0;
  let b = out ? 0 : 256;
  while (a < 256 || b < 256) {
    if (b > 255 || (a < 256 && a * unit <= b * other)) {
      add(a * unit, stay[a]);
      a += 1;
    } else {
      add(b * other, out[b]);
      b += 1;
    }
  }
  return {levels, until};
}

// Scales: how far along the colour table a magnitude lies, which value lies half way, and what the legend says.
const SCALES = {
  linear: (d) => ({high: d.max, t: (v) => v / d.max, half: d.max / 2, words: "linear"}),
  sqrt(d) {
    const clip = d.quantile(0.99);
    const high = clip > 0 ? clip : d.max;
    const words = "square root, clipped at the 99th percentile";
    return {high, t: (v) => Math.sqrt(v / high), half: high / 4, words, clipped: high < d.max};
  },
  log(d) {
    const low = Math.min(Math.max(d.low, d.max / 1e4), d.max / 2);
    const span = Math.log(d.max / low);
    return {high: d.max, low, t: (v) => Math.log(v / low) / span, half: Math.sqrt(low * d.max), words: "logarithmic"};
  },
  rank: (d) => ({high: d.max, t: d.rank, half: d.quantile(0.5), words: "by rank"}),
};

function makeScale(name, distribution, signed, rowRange = false) {
  if (rowRange && !signed) return fromLeast(name, distribution);
  const scale = (SCALES[name] ?? SCALES.sqrt)(distribution);
  const along = (v) => (v > 0 && scale.high > 0 ? Math.min(1, Math.max(0, scale.t(v))) : 0);
  const t = signed ? (v) => 0.5 + 0.5 * Math.sign(v) * along(Math.abs(v)) : along;
  const words = scale.words === "linear" ? `linear ${signed ? "around" : "from"} zero` : scale.words;
  return {...scale, t, signed, words};
}

// The same above the least value instead of above zero, so that small differences between high values are seen.
function fromLeast(name, {max, least, quantile, rank}) {
  const above = (q) => quantile(q) - least;
  const rest = {max: max - least, low: above(0.01), quantile: above, rank: (v) => rank(v + least)};
  const scale = makeScale(name, rest, false);
  const words = `${scale.words.replace(" from zero", "")}, from the minimum of the row`;
  return {
    ...scale,
    low: least,
    half: scale.half + least,
    high: scale.high + least,
    t: (v) => scale.t(v - least),
    words,
  };
}

// Colours -------------------------------------------------------------------------------------------------------------
function fillTables(hexes) {
  shared.tables = {};
  for (const [name, hex] of Object.entries(hexes)) {
    const table = new Uint32Array(256);
    for (let i = 0; i < 256; i++) {
      const rgb = parseInt(hex.slice(6 * i, 6 * i + 6), 16);
      table[i] = 0xff000000 | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16); // little-endian RGBA
    }
    shared.tables[name] = table;
  }
}

function tableOf(name, signed) {
  return shared.tables[signed ? shared.diverging[shared.dark ? 1 : 0] : name] ?? Object.values(shared.tables)[0];
}

const STYLES = 2; // scales and colours in which the painted maps of a record are kept
const MASKED = 0x40808080; // a see-through grey: nothing to see here, as opposed to little

function rowScale(record, row, units, drop, name) {
  const count = record.shape.at(-1);
  const start = row * count;
  const {
    zero,
    holes,
    keys: {special},
    signed,
  } = record;
  return makeScale(name, ofBytes(record.cells, start, start + count, units, {zero, holes, special, drop}), signed);
}

// One scale for the shown rows of all maps of some records: what makes panels comparable.
function commonScale(records, queries, name, drop) {
  const used = records.filter((record) => queries.length || !record.square);
  const values = new Float32Array(used.reduce((sum, {shape}) => sum + shape[0] * shape.at(-1), 0));
  let at = 0;
  for (const record of used) {
    for (let map = 0; map < record.shape[0]; map++, at += record.shape.at(-1)) {
      values.set(togetherRow(record, map, queries, drop), at);
    }
  }
  return makeScale(name, ofNumbers(values, records[0]?.signed), records[0]?.signed);
}

// The painted maps of a record, by map, for what they are painted with. Those of the last two styles are kept.
function imagesOf({images}, style) {
  const kept = images.get(style) ?? new Map();
  images.delete(style);
  images.set(style, kept); // now the newest
  if (images.size > STYLES) images.delete(images.keys().next().value);
  return kept;
}

// A whole map as an image of one pixel a cell, kept with its record; masked cells are empty, for a hatch to show through.
// `kept`: null where it has not been made yet. `fixed`: a scale other than the map's own.
function matrixImage(record, map, name, colours, drop, kept = false, fixed = null) {
  const images = imagesOf(record, [name, colours, drop, record.signed && shared.dark].join());
  const key = fixed ? `fixed ${map}` : map;
  if (images.has(key) || kept) return images.get(key) ?? null;
  const [, rows, columns] = record.shape;
  const {special, lead} = record.keys;
  const skip = drop ? lead : 0;
  const scale = fixed ?? makeScale(name, ofMap(record, map, drop, skip), record.signed);
  const table = tableOf(colours, record.signed);
  const image = pixels(columns - skip, rows, (pixel) => {
    for (let q = 0, at = 0; q < rows; q++) {
      const row = rowIndex(record, map, q);
      const of = stepsOfBytes(record, unitsOf(record, row, drop), scale);
      for (let k = skip; k < columns; k++) {
        const step = of(record.cells[row * columns + k], special[k]);
        const shown = step < 0 ? 0 : table[step];
        pixel[at++] = drop && special[k] ? MASKED : shown;
      }
    }
  });
  const made = {image, scale, part: [0, 0, columns - skip, rows]};
  images.set(key, made);
  return made;
}

// A canvas of exactly columns x rows pixels, filled as RGBA numbers.
function pixels(columns, rows, fill) {
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d");
  const data = context.createImageData(columns, rows);
  fill(new Uint32Array(data.data.buffer));
  context.putImageData(data, 0, 0);
  return canvas;
}
