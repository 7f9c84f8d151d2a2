// How things are said: tokens, amounts, relations between tokens.

// What a view that asks for a token says.
function askedFor(tokens, over, tipAt, note = "") {
  if (over == null)
    return {sentence: "Click the one you expect to receive most weight; white: where it comes from", note};
  const sentence = `${capital(fullName(tokens, over))}: click to choose it`;
  return {sentence, tip: sentence, tipAt, note};
}

function nameOf(tokens, index) {
  if (!tokens.grid) return tokens.words?.[index] < 0 ? tokens.labels[index] : `“${short(tokens.labels[index])}”`;
  const cell = cellOf(tokens, index);
  return cell ? `row ${cell[0] + 1}, column ${cell[1] + 1}` : tokens.labels[index];
}

// Whether a token goes on with the word of the one before.
function goesOn({words}, index) {
  return words?.[index] >= 0 && words[index] === words[index - 1];
}

// A label among the other tokens of its word: "…ing" is "ing".
function spelled(tokens, index) {
  const label = tokens.labels[index];
  return goesOn(tokens, index) ? label.replace(/^…/, "") : label;
}

function short(text) {
  const signs = [...text];
  return signs.length > 40 ? `${signs.slice(0, 39).join("")}…` : text;
}

// As much of a text as there is room for.
function fitted(context, text, room) {
  if (text.length < 4 || context.measureText(text).width <= room) return text;
  const signs = [...text].slice(0, 200);
  // by halves: the longest beginning that fits
  let few = 1;
  let many = signs.length;
  while (few < many) {
    const middle = (few + many + 1) >> 1;
    if (context.measureText(`${signs.slice(0, middle).join("")}…`).width <= room) few = middle;
    else many = middle - 1;
  }
  return `${signs.slice(0, few).join("")}…`;
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

// How a number in a map that holds no weights is said.
const SAID = {
  "received weights": (row, column, amount) => `${row} receives ${amount} of the attention of ${column}`,
  relevance: (row, column, amount) => `${capital(column)} receives ${amount} of the relevance of ${lower(row)}`,
  match: (row, column, amount) => `${row} would attend to ${column} there with ${amount}`,
  difference: (row, column, amount) => `${row} to ${column}: ${amount}, first minus second`,
};

function same(record, query, key) {
  return query === key && record.queries.stream === record.keys.stream;
}

function relation(record, query, key, value) {
  const from = capital(fullName(record.queries, query));
  const amount = written(value, record.unit);
  const to = same(record, query, key) ? "itself" : nameOf(record.keys, key);
  if (SAID[record.map_type]) return SAID[record.map_type](from, nameOf(record.keys, key), amount);
  if (record.unit !== "percent") return `${from} to ${to}: ${record.map_type} ${amount}`;
  if (record.map_type === "weights") return `${from} attends to ${to} with ${amount}`;
  if (record.map_type === "effective") return `${from} effectively attends to ${to} with ${amount}`;
  return `${from} attends to ${to} with ${amount} (${record.map_type})`;
}

function specialWords({labels, special}) {
  const [first, ...more] = new Set(labels.filter((_, index) => special[index]));
  return more.length > 1 ? `${first} and ${more.length} more` : [first, ...more].join(" and ");
}

// What the legend says where a row is cut down to a share of its mass.
function massNote({mass}) {
  return mass == null ? "" : `shown: the largest that hold ${Math.round(100 * mass)} %`;
}

// What the legend says about cells without a colour: those left out, those masked.
function gapsNote(record, map, queries, drop) {
  const share = droppedShare(record, map, queries);
  const out = drop && record.keys.special.includes(1);
  const rest = share == null ? "" : ` (${written(share, "percent")}), rest rescaled`;
  return [out && `${specialWords(record.keys)} left out${rest}`, maskNote(record, map)].filter(Boolean).join("; ");
}

// Maps of one record may have masks of their own: what is said of one of them is read off its cells.
function maskNote(record, map = null) {
  const size = record.cells.length / record.titles.length;
  const hole = record.square ? 0 : NaN;
  const masked =
    record.hasMasked && (map == null || record.cells.subarray(map * size, (map + 1) * size).includes(hole));
  return masked ? "hatched: masked, may not be attended to" : "";
}

// The row in words: what the query attends to most, and what the pointer is on.
function rowWords(record, map, queries, drop, over, named = null) {
  const values = togetherRow(record, map, queries, drop);
  const best = named ?? bestKey(record, map, queries, values, drop);
  if (best < 0) return {values, best: null, sentence: "Nothing to attend to here"};
  const leave = over != null && values[over] !== values[over]; // masked, or left out
  if (leave && drop && record.keys.special[over])
    return {values, best, sentence: `${nameOf(record.keys, over)} is left out`};
  if (leave && record.square) return {values, best, sentence: maskedWords(record, queries, over)};
  const key = over ?? best;
  const amount = written(values[key], record.unit);
  const name = capital(fullName(record.keys, key));
  if (!record.square) {
    const rank = over == null ? "the highest" : rankWords(values, key);
    if (record.map_type === "relevance" && record.unit === "number")
      return {values, best, sentence: `${name} has a relevance of ${amount}, ${rank}`};
    if (record.map_type === "relevance")
      return {values, best, sentence: `${name} has ${amount} of the relevance, ${rank}`};
    return {
      values,
      best,
      sentence: `${name}: ${record.unit === "percent" ? "" : `${record.map_type} `}${amount}, ${rank}`,
    };
  }
  if (queries.length > 1) {
    const rank = over == null ? "their strongest key" : rankWords(values, key);
    const to = nameOf(record.keys, key);
    const who = `${queries.length} selected tokens together`;
    return {values, best, sentence: `${who}: ${amount} to ${to}, ${rank} (${togetherWord(record)} of rows)`};
  }
  const top = record.map_type === "weights" ? ", its strongest key" : ", the highest";
  return {values, best, sentence: relation(record, queries[0], key, values[key]) + (key === best ? top : "")};
}

function maskedWords(record, queries, key) {
  const who =
    queries.length === 1 ? capital(fullName(record.queries, queries[0])) : `${queries.length} selected tokens`;
  const to = queries.length === 1 && same(record, queries[0], key) ? "itself" : nameOf(record.keys, key);
  return `${who} to ${to} is masked: this query may not attend to that key`;
}

// A second line of a tooltip: how much the selected tokens attend to the one under the pointer.
function received(view, maps, over, drop) {
  const selected = view.tokens.filter((token) => token < maps.queries.count);
  if (over == null || !maps.square || !selected.length || (selected.length === 1 && selected[0] === over)) return "";
  const value = togetherRow(maps, view.index, selected, drop)[over];
  if (value !== value) return "";
  if (selected.length === 1) return `\nSelected: ${lower(relation(maps, selected[0], over, value))}`;
  return `\nThe ${selected.length} selected: ${written(value, maps.unit)} here (${togetherWord(maps)})`;
}

function rankWords(values, key) {
  let above = 0;
  let count = 0;
  for (const value of values) {
    if (value !== value) continue;
    count++;
    if (value > values[key]) above++;
  }
  return above ? `rank ${above + 1} of ${count}` : `the highest of ${count}`;
}
