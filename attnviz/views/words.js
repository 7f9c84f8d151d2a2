// How things are said: tokens, amounts, relations between tokens.

function nameOf(tokens, index) {
  if (!tokens.grid) return `“${tokens.labels[index]}”`;
  const cell = cellOf(tokens, index);
  return cell ? `row ${cell[0] + 1}, column ${cell[1] + 1}` : tokens.labels[index];
}

function fullName(tokens, index) {
  return tokens.grid && index >= tokens.prefix ? `patch ${nameOf(tokens, index)}` : nameOf(tokens, index);
}

function lower(text) {
  return text.startsWith("Patch ") ? text.slice(6) : text;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function written(value, unit) {
  if (!Number.isFinite(value)) return "nothing (masked)";
  if (unit === "percent") {
    if (value === 0) return "0 %";
    if (Math.abs(value) < 0.0005) return "under 0.1 %";
    return `${(100 * value).toFixed(1)} %`.replace("-", "−");
  }
  return value === 0 ? "0" : String(Number(value.toPrecision(3))).replace("-", "−");
}

// How a number in a map is said, by what the map holds: who gives how much to whom.
const SAID = {
  weights: (row, column, amount) => `${row} gives ${amount} to ${column}`,
  "received weights": (row, column, amount) => `${row} gets ${amount} of what ${column} gives`,
  relevance: (row, column, amount) => `${capital(column)} gets ${amount} of the relevance of ${lower(row)}`,
  difference: (row, column, amount) => `${row} to ${column}: ${amount}, first minus second`,
};

function relation(record, query, key, value) {
  const from = capital(fullName(record.queries, query)), amount = written(value, record.unit);
  const same = query === key && record.queries.stream === record.keys.stream;
  const to = same ? "itself" : nameOf(record.keys, key);
  if (record.kind !== "weights" && SAID[record.kind]) return SAID[record.kind](from, nameOf(record.keys, key), amount);
  return record.unit === "percent" ? SAID.weights(from, to, amount) : `${from} to ${to}: ${record.kind} ${amount}`;
}

function prefixWords(tokens) {
  if (tokens.prefix === 1) return tokens.labels[0];
  return `${tokens.labels[0]} and ${tokens.prefix - 1} more`;
}

// What the legend says about the prefix.
function prefixNote(record, map, queries, drop) {
  const share = droppedShare(record, map, queries);
  if (!drop || share == null) return drop && record.keys.prefix ? `${prefixWords(record.keys)} left out` : "";
  return `${prefixWords(record.keys)} left out (${written(share, "percent")}), rest rescaled`;
}

// The row in words: who gives most to whom, and what the pointer is on.
function rowWords(record, map, queries, drop, over) {
  const values = togetherRow(record, map, queries, drop), best = strongest(values);
  if (best < 0) return {values, best: null, sentence: "Nothing to attend to here"};
  const key = over ?? best, amount = written(values[key], record.unit), name = capital(fullName(record.keys, key));
  if (!record.square) {
    const rank = over == null ? "the highest" : rankWords(values, key);
    if (record.kind === "relevance") return {values, best, sentence: `${name} has ${amount} of the relevance, ${rank}`};
    return {values, best, sentence: `${name}: ${record.unit === "percent" ? "" : `${record.kind} `}${amount}, ${rank}`};
  }
  if (queries.length > 1) {
    const rank = over == null ? "their strongest" : rankWords(values, key), to = nameOf(record.keys, key);
    const who = `${queries.length} picked tokens together`;
    return {values, best, sentence: `${who}: ${amount} to ${to}, ${rank} (${togetherWord(record)} of rows)`};
  }
  const top = record.kind === "weights" ? ", its strongest" : ", the highest";
  return {values, best, sentence: relation(record, queries[0], key, values[key]) + (key === best ? top : "")};
}

function rankWords(values, key) {
  let above = 0, count = 0;
  for (const value of values) {
    if (value !== value) continue;
    count++;
    if (value > values[key]) above++;
  }
  return above ? `number ${above + 1} of ${count}` : `the highest of ${count}`;
}
