// A sentence as flowing text: every token on the colour of its weight in the row of the word under the pointer.

// pixels: type, a line, a token, between words, beside letters
const LETTER = 17;
const ROW = 38;
const TALL = 28;
const BLANK = 5;
const INSIDE = 5;
const NAMED = 3; // strongest keys that are named where they lie outside of the window
const CLOSING = /^[.,;:!?%)\]}…”’']/; // signs that stand close to the word before them

// Where every token lies: [x, y, width, height], and where all ends. Tokens of one word touch and stay on one line where
// they can. Kept until the text or the room for it changes.
function textBoxes(view, tokens, {width = view.width, top = EDGE} = {}) {
  const {ink, context} = view;
  const kept = view.layout;
  if (kept?.tokens === tokens && kept.width === width && kept.top === top && kept.font === ink.font) return kept;
  const most = Math.min(view.width - 2 * EDGE, 420);
  const sizes = tokens.labels.map((_, i) => Math.min(most, tokenSize(context, tokens, i, ink.font)));
  const places = [];
  let x = EDGE;
  let y = top;
  let right = 0;
  for (let start = 0; start < sizes.length;) {
    let stop = start + 1;
    let long = sizes[start];
    while (stop < sizes.length && goesOn(tokens, stop)) long += sizes[stop++];
    if (start) x += CLOSING.test(tokens.labels[start]) ? 1 : BLANK;
    if (x > EDGE && x + long > width - EDGE) [x, y] = [EDGE, y + ROW];
    for (let i = start; i < stop; i++) {
      if (x > EDGE && x + sizes[i] > width - EDGE) [x, y] = [EDGE, y + ROW];
      places.push([x, y, sizes[i], TALL]);
      x += sizes[i];
      right = Math.max(right, x);
    }
    start = stop;
  }
  return (view.layout = {tokens, width, top, font: ink.font, places, right, bottom: y + TALL + EDGE});
}

function isSpecial(tokens, index) {
  return tokens.words?.[index] < 0;
}

function typeOf(tokens, index, font) {
  return isSpecial(tokens, index) ? `600 11px ${font}` : `${LETTER}px ${font}`;
}

// A token's width; letters keep a distance from the ends of a word, and none from the token beside them.
function tokenSize(context, tokens, index, font) {
  context.font = typeOf(tokens, index, font);
  const {width} = context.measureText(spelled(tokens, index));
  if (isSpecial(tokens, index)) return Math.ceil(width) + 16;
  return Math.ceil(width) + (goesOn(tokens, index) ? 1 : INSIDE) + (goesOn(tokens, index + 1) ? 1 : INSIDE);
}

const textView = {
  clears: true,
  wide: true,
  scrolls: true,
  record(view) {
    const record = recordOf(view.maps);
    return hasMap(record, view.index) && !record.keys.grid ? record : null;
  },
  at(view, x, y) {
    const record = this.record(view);
    if (!record || !view.context) return null;
    return tokenIn(textBoxes(view, record.keys).places, x, y);
  },
  move(view, hit, [down, right]) {
    const record = this.record(view);
    if (!record) return null;
    const {places} = textBoxes(view, record.keys);
    const from = hit?.token ?? view.tokens[0] ?? -1;
    if (!places[from]) return {token: 0};
    const to = down ? nearest(places, from, down) : from + right;
    return {token: Math.min(places.length - 1, Math.max(0, to))};
  },
  // Of another stream than the queries, a word is only a key.
  places(view, {token}) {
    const record = this.record(view);
    const place = placeOf(record.keys, token);
    return own(record) ? {query: place, key: null} : {query: null, key: place};
  },
  pick(view, {token}) {
    if (own(this.record(view))) toggle(view, token);
  },
  where: (view, {token}) => textBoxes(view, textView.record(view).keys).places[token],
  boxes: (view, {keys}) => textBoxes(view, keys),
  // The boxes of the last chosen word and of its strongest keys; of a text that holds only keys, theirs.
  sight(view) {
    const record = this.record(view);
    const token = view.tokens.at(-1);
    if (!record || !(token < (record.square ? record.queries.count : record.keys.count))) return [];
    const {places} = this.boxes(view, record);
    return [...(own(record) ? [token] : []), ...strongestKeys(view, record, [token])].map((key) => places[key]);
  },

  // The word of another text that is pointed at, and the maps from these words to it, where `back` names them.
  attendingTo({data}, {keys}) {
    const maps = recordOf(data.back);
    const key = maps?.square && !shared.hover?.query ? tokenAt(maps.keys, shared.hover?.key) : null;
    const theirs = key != null && maps.queries.stream === keys.stream && maps.queries.count === keys.count;
    return theirs && maps.keys.stream !== keys.stream ? {maps, key} : null;
  },

  // The words on the colour of how much each attends to that one.
  paintAttending(view, record, {places}, seen, {maps, key}) {
    const units = (row) => unitsOf(maps, row, false);
    const row = (query) => rowIndex(maps, 0, query);
    const given = Float32Array.from({length: maps.queries.count}, (_, q) => valueOf(maps, row(q), key, units(row(q))));
    const scale = makeScale(view.data.scale, ofNumbers(given, false), false);
    const table = tableOf(view.data.colours, false);
    const best = strongest(given);
    const [who, whom] = [nameOf(maps.queries, best), nameOf(maps.keys, key)];
    this.drawWords(view, record, places, seen, {table, index: stepsOf(given, scale)});
    markText(view, record, places, null, best);
    return {
      sentence: `${capital(whom)} receives most from ${who}: ${written(given[best], maps.unit)}`,
      legend: {scale, table, unit: maps.unit, note: `how much each word attends to ${whom}`},
    };
  },

  drawWords(view, record, places, seen, row) {
    places.forEach((box, i) => {
      if (box[1] + TALL > seen.top && box[1] < seen.bottom) drawToken(view, record.keys, i, box, row);
    });
  },

  // Words that are taken away are struck out.
  removal(view, record, places, row) {
    const {context, ink} = view;
    const over = own(record) ? hovered(record.keys) : null;
    const gone = view.tokens.filter((token) => token < places.length);
    drawGone(
      view,
      gone.map((token) => places[token]),
    );
    for (const token of gone) {
      const [x, y, w, h] = places[token];
      drawToken(view, record.keys, token, places[token], null);
      context.fillStyle = ink.text;
      context.fillRect(x + 2, y + h / 2, w - 4, 1.5);
    }
    if (over != null) outline(context, places[over], ink.query);
    const sentence = removalWords(view, record.keys, over);
    const legend = {scale: row.scale, table: row.table, unit: record.unit};
    return {sentence, tip: over == null ? "" : sentence, tipAt: view.pointer ?? belowToken(view, places), legend};
  },

  paint(view) {
    const record = this.record(view);
    if (!record) return null;
    const {data, index} = view;
    const boxes = textBoxes(view, record.keys);
    const drop = data.hide_special;
    const seen = resize(view, Math.max(boxes.bottom, view.root.expected(view.width)));
    const queries = record.square ? active(view, record.queries) : [];
    const shown = !data.asks && (!record.square || queries.length > 0);
    const attending = this.attendingTo(view, record);
    if (attending) return this.paintAttending(view, record, boxes, seen, attending);
    const fixed = data.shared && shown ? commonScale([record], queries, data.scale, drop) : null;
    const row =
      shown &&
      paintRow(record, index, queries, {
        name: data.scale,
        colours: data.colours,
        drop,
        fixed,
        rowRange: data.row_range,
        mass: data.mass,
      });
    const over = own(record) ? hovered(record.keys) : null;
    const key = tokenAt(record.keys, shared.hover?.key);
    const words = shown && rowWords(record, index, queries, drop, record.square ? key : over, bestNamed(view, queries));
    this.drawWords(view, record, boxes.places, seen, row);
    if (data.removal) return this.removal(view, record, boxes.places, row);
    markText(view, record, boxes.places, words?.best, key);
    if (data.asks) return askedFor(record.keys, over, view.pointer ?? belowToken(view, boxes.places));
    if (!shown) return {sentence: "Point at or tap a word to see what it attends to", note: maskNote(record, index)};
    const far = outOfSight(view, record, queries, boxes.places, seen);
    const note = [data.shared && "colour scale: shared", massNote(data), gapsNote(record, index, queries, drop)]
      .filter(Boolean)
      .join("; ");
    return {
      sentence: words.sentence + far,
      tip: words.sentence + received(view, record, over, drop),
      tipAt: view.pointer ?? belowToken(view, boxes.places),
      legend: {scale: row.scale, table: row.table, unit: record.unit, note},
      marks: {
        selected: own(record) && view.tokens.length > 0,
        best: record.square && words.best != null,
        guess: data.guess != null,
      },
    };
  },
};

// The parts of drawing that every view of a text shares --------------------------------------------------------------
function tokenIn(places, x, y) {
  const token = places.findIndex(([l, t, w, h]) => x >= l && x < l + w && y >= t && y < t + h);
  return token < 0 ? null : {token};
}

function belowToken({cursor}, places) {
  const [x, y, , h] = places[cursor?.token] ?? [];
  return cursor ? [x, y + h] : null;
}

// One token: its ground, hatched where masked, bare where left out or where no row is shown, and its letters.
function drawToken(view, tokens, index, [x, y, w, h], row) {
  const {context, ink} = view;
  const step = row ? row.index[index] : -2;
  const capsule = isSpecial(tokens, index);
  const [top, tall] = capsule ? [y + 4, h - 8] : [y, h];
  const before = goesOn(tokens, index);
  const after = goesOn(tokens, index + 1);
  const [start, end] = capsule ? [tall / 2, tall / 2] : [before ? 0 : 4, after ? 0 : 4];
  const gap = before ? 0.5 : 0;
  context.beginPath();
  context.roundRect(x + gap, top, w - gap - (after ? 0.5 : 0), tall, [start, end, end, start]);
  if (step >= 0) {
    context.fillStyle = css(row.table[step]);
    context.fill();
  } else if (step === -1) {
    context.save();
    context.clip();
    drawHatch(view, [x, top, w, tall]);
    context.restore();
  } else if (capsule) {
    context.strokeStyle = ink.muted;
    context.lineWidth = 1;
    context.stroke();
  } else if (before || after) {
    context.fillStyle = ink.second;
    context.fill();
  }
  context.font = typeOf(tokens, index, ink.font);
  context.fillStyle = step >= 0 ? contrast(css(row.table[step])) : ink.text;
  const inside = before ? 1 : INSIDE;
  const left = capsule ? 8 : inside;
  context.fillText(fitted(context, spelled(tokens, index), w - left), x + left, y + (capsule ? 18 : 20));
}

function markText({context, ink, tokens, data}, record, places, best, key) {
  const inside = (token) => token != null && token < places.length;
  const over = own(record) ? hovered(record.keys) : null;
  if (inside(data?.guess)) outline(context, places[data.guess], ink.position, 1.5);
  if (inside(best) && record.square) outline(context, places[best], ink.key, 1.5);
  if (own(record)) for (const token of tokens) if (inside(token)) outline(context, places[token], PICKED);
  if (inside(key) && key !== over) outline(context, places[key], ink.key);
  if (inside(over)) outline(context, places[over], tokens.includes(over) ? PICKED : ink.query);
}

// The keys some queries attend to most, the strongest first; of one number a word there are none.
function strongestKeys(view, record, queries) {
  if (!record.square || !queries.length) return [];
  const values = togetherRow(record, view.index, queries, view.data.hide_special);
  return strongestFew(values, NAMED).sort((a, b) => values[b] - values[a]);
}

// Those of them that lie outside of the window, with their weights and where to scroll.
function outOfSight(view, record, queries, places, {top, bottom}) {
  const away = strongestKeys(view, record, queries).filter(
    (key) => places[key][1] < top - 1 || places[key][1] + TALL > bottom + 1,
  );
  if (!away.length) return "";
  const values = togetherRow(record, view.index, queries, view.data.hide_special);
  const said = (key) =>
    `${nameOf(record.keys, key)} ${written(values[key], record.unit)} ${places[key][1] < top ? "↑" : "↓"}`;
  return `; out of sight: ${away.map(said).join(", ")}`;
}

// Whether the words that are drawn are also the queries.
function own(record) {
  return !record.square || record.keys.stream === record.queries.stream;
}

// The token in the line above or below that lies closest.
function nearest(places, from, down) {
  const [x, y, w] = places[from];
  const middle = x + w / 2;
  const line = places.map((place, i) => [Math.abs(place[0] + place[2] / 2 - middle), i, place[1]]);
  const there = line.filter(([, , top]) => top === y + down * ROW);
  return there.length ? there.reduce((a, b) => (b[0] < a[0] ? b : a))[1] : from;
}
