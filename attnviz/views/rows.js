// One row of a map, ready to be painted: which colour of the table each key has.

const UNMET = -3;

// -> {scale, table, index [key]: 0..255, -1 where masked, -2 where dropped}. `fixed` is a scale shared by several panels;
// `rowRange` lets the row's own scale begin at its least value.
function paintRow(record, map, queries, {name, colours, drop, fixed, rowRange}) {
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
