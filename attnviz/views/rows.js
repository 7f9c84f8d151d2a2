// One row of a map, ready to be painted: which colour of the table each key has.

const UNMET = -3;

// -> {scale, table, index [key]: 0..255, -1 where masked, -2 where dropped}. `fixed` is a scale shared by several panels;
// `rowRange` lets the row's own scale begin at its least value; of a share `mass`, keys that do not belong to it drop out.
function paintRow(record, map, queries, {mass, ...how}) {
  const row = wholeRow(record, map, queries, how);
  if (mass == null) return row;
  const held = massMask(togetherRow(record, map, queries, how.drop), record.keys.special, mass);
  return {...row, index: row.index.map((step, k) => (held[k] ? step : -2))};
}

// Which keys are coloured where a row is cut down to a share of its mass: the fewest whose magnitudes reach it (DINO's
// mask; measures/mass.py does the same). Keys that can be left out do not count, and are as they were.
function massMask(values, special, share) {
  const keys = [...values.keys()].filter((k) => !special[k] && values[k]); // neither zero nor not a number
  const total = keys.reduce((sum, k) => sum + Math.abs(values[k]), 0);
  const held = Uint8Array.from(values, (value, k) => (special[k] || Number.isNaN(value) ? 1 : 0));
  keys.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  let before = 0;
  for (const k of keys) {
    if (before >= (share - 1e-9) * total) break;
    held[k] = 1;
    before += Math.abs(values[k]);
  }
  return held;
}

function wholeRow(record, map, queries, {name, colours, drop, fixed, rowRange}) {
  const table = tableOf(colours, record.signed);
  const count = record.shape.at(-1);
  const {special} = record.keys;
  const unlessDropped = (step, k) => (drop && special[k] ? -2 : step);
  if (!record.square || queries.length > 1 || (rowRange && !fixed)) {
    const total = togetherRow(record, map, queries, drop);
    const scale = fixed ?? makeScale(name, ofNumbers(total, record.signed), record.signed, rowRange);
    return {scale, table, index: stepsOf(total, scale).map(unlessDropped)};
  }
  const row = rowIndex(record, map, queries[0]);
  const units = unitsOf(record, row, drop);
  const scale = fixed ?? rowScale(record, row, units, drop, name);
  const of = stepsOfBytes(record, units, scale);
  const start = row * count;
  const index = Int16Array.from({length: count}, (_, k) => unlessDropped(of(record.cells[start + k], special[k]), k));
  return {scale, table, index};
}

// The step of the colour table for each of some numbers, -1 where there is none.
function stepsOf(values, scale) {
  return Int16Array.from(values, (value) => (value === value ? Math.round(scale.t(value) * 255) : -1));
}

// (byte, 1 for a special key) -> step of the colour table, for a row of these units; -1 for a hole. Few of the 256 bytes
// stand in a row, so each waits until met.
function stepsOfBytes({zero, holes}, units, scale) {
  const steps = units.map(() => new Int16Array(256).fill(UNMET));
  if (holes) for (const own of steps) own[0] = -1;
  return (byte, part = 0) => {
    const own = steps[part];
    if (own[byte] === UNMET) own[byte] = Math.round(scale.t((byte - zero) * units[part]) * 255);
    return own[byte];
  };
}
