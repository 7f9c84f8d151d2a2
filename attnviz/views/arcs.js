// A sentence on one line: an arc from each word to those it attends to most, and below it the gold dependencies.

// arcs drawn at once; pixels the flattest rises
const ARCS = 2000;
const LOW_ARC = 12;

const arcsView = {
  clears: true,
  wide: true,
  scrolls: true,
  record(view) {
    const record = recordOf(view.maps);
    const fits = hasMap(record, view.index) && record.square && !record.signed && !record.keys.grid;
    return fits && own(record) ? record : null;
  },
  at(view, x, y) {
    const record = this.record(view);
    if (!record || !view.context) return null;
    const moved = [...(view.moved ?? [])].findLast(([, box]) => tokenIn([box], x, y));
    return moved ? {token: moved[0], moved: true} : tokenIn(this.boxes(view, record).places, x, y);
  },
  move(view, hit, [, right]) {
    const record = this.record(view);
    const from = hit?.token ?? view.tokens[0] ?? -1;
    return record && {token: Math.min(record.keys.count - 1, Math.max(0, from + right))};
  },
  places: (view, {token}) => ({query: placeOf(arcsView.record(view).keys, token), key: null}),
  pick: (view, {token}) => toggle(view, token),
  where: (view, {token}) => arcsView.boxes(view, arcsView.record(view)).places[token],
  sight: (view) => textView.sight.call(arcsView, view),

  boxes(view, {keys}) {
    const {height, gold_dependencies: gold} = view.data;
    const below = gold.length ? Math.round(0.3 * height) : 8;
    return textBoxes(view, keys, {width: Infinity, top: height - below - TALL});
  },

  // The boxes of the words that stay in the window although their places have left it: what is asked about, and what it
  // has most to do with.
  kept(view, record, {queries, key}, places, {left, right}) {
    const held = view.hit?.moved && shared.hover?.by === view.name; // what is pointed at there must not move away
    const keys = strongestKeys(view, record, queries);
    if (!held) view.inSight = [...new Set([...queries, ...keys, ...(key == null ? [] : [key])])].sort((a, b) => a - b);
    const words = view.inSight.filter((token) => token < places.length);
    const starts = keptInside(
      words.map((token) => [places[token][0], places[token][2] + BLANK]),
      left,
      right + BLANK,
    );
    const boxes = words.map((token, i) => [token, places[token].with(0, starts[i])]);
    return new Map(boxes.filter(([token, box]) => box[0] !== places[token][0]));
  },

  paint(view) {
    const record = this.record(view);
    if (!record) return recordOf(view.maps) ? unfit(view, "Arcs need one text and rows that sum to 1") : null;
    const {data, index} = view;
    const drop = data.hide_special;
    const boxes = {...this.boxes(view, record)};
    const wide = Math.max(view.width, boxes.right + EDGE);
    const seen = resize(view, data.height, wide);
    const queries = active(view, record.queries);
    const key = tokenAt(record.keys, shared.hover?.key);
    const alone = hovered(record.queries) == null && key != null; // only a key is pointed at: what attends to it
    const asked = alone ? {queries: [], key} : {queries, key: null};
    view.moved = this.kept(view, record, asked, boxes.places, seen);
    const places = (boxes.places = boxes.places.map((box, token) => view.moved.get(token) ?? box));
    const {shown, total} = keptStrongest(
      view,
      record,
      [index],
      asked,
      {minWeight: data.min_weight, topK: 0, topP: 1, drop},
      ARCS,
    );
    const given = new Set(data.gold_dependencies.map(([query, to]) => `${query}>${to}`));
    const about = alone ? [key] : queries;
    this.above(view, boxes, shown, given, seen);
    this.below(view, boxes, about, seen);
    places.forEach((box, i) => {
      const inside = box[0] + box[2] > seen.left && box[0] < seen.right;
      if (inside && !view.moved.has(i)) drawToken(view, record.keys, i, box, null);
    });
    for (const [token, box] of view.moved) this.drawMoved(view, record.keys, token, box);
    const words = !alone && queries.length ? rowWords(record, index, queries, drop, null) : null;
    markText(view, record, places, words?.best, key);
    return this.words(view, record, {words, about, given, shown, total, places});
  },

  // Over the words that are there.
  drawMoved(view, tokens, token, box) {
    const [x, y, w, h] = box;
    view.context.fillStyle = view.ink.ground;
    view.context.fillRect(x - 2, y - 2, w + 4, h + 4);
    drawToken(view, tokens, token, box, null);
    outline(view.context, box, view.ink.muted, 1);
  },

  // The map's arcs, the weakest first; those that are gold dependencies too come last, are green and carry a dot.
  above(view, {places, right}, shown, given, seen) {
    const {context, ink} = view;
    const room = places[0][1] - 22;
    const isGiven = ([, query, key]) => given.has(`${query}>${key}`);
    for (const arc of [...shown.filter((one) => !isGiven(one)), ...shown.filter(isGiven)]) {
      const [weight, query, key] = arc;
      const agrees = isGiven(arc);
      const strength = Math.min(1, weight / 0.6);
      context.globalAlpha = 0.3 + 0.7 * strength;
      const [x, y] = drawArc(context, places, query, key, {
        up: -1,
        room,
        right,
        seen,
        colour: agrees ? ink.green : ink.query,
        line: 1 + 3 * strength,
      });
      if (!agrees) continue;
      context.globalAlpha = 1;
      context.beginPath();
      context.arc(x, y, 4, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
  },

  below(view, {places, right}, about, seen) {
    const {context, ink, data} = view;
    const room = data.height - places[0][1] - TALL - 10;
    for (const [query, key] of data.gold_dependencies) {
      if (!places[query] || !places[key] || (about.length && !about.includes(query) && !about.includes(key))) continue;
      drawArc(context, places, query, key, {up: 1, room, right, seen, colour: ink.green, line: 1.5});
    }
  },

  words(view, record, {words, about, given, shown, total, places}) {
    const {min_weight: minWeight, gold_dependencies: gold} = view.data;
    const found = shown.filter(([, query, key]) => given.has(`${query}>${key}`)).length;
    const of = gold.filter(([query, key]) => !about.length || about.includes(query) || about.includes(key)).length;
    const few =
      total > shown.length ? `the ${ARCS.toLocaleString("en")} strongest of ${total.toLocaleString("en")}` : "";
    const left = view.data.hide_special && record.keys.special.includes(1);
    const out = left ? `${specialWords(record.keys)} left out, rest rescaled` : "";
    const agreed = of ? `green: gold dependencies; ${found} of ${of} are also in the map (dots)` : "";
    const note = [`minimum weight ${written(minWeight, "percent")}`, out, few, agreed].filter(Boolean).join("; ");
    if (!about.length) return {sentence: "Point at or tap a word to see its arcs alone", note};
    if (!words) return {sentence: `${shown.length || "No"} arcs end at ${nameOf(record.keys, about[0])}`, note};
    const linked = gold.filter(([query]) => about.includes(query)).map(([, key]) => nameOf(record.keys, key));
    const tip = words.sentence + (linked.length ? `\nGold dependency: to ${linked.join(", ")}` : "");
    return {sentence: words.sentence, tip, tipAt: view.pointer ?? belowToken(view, places), note};
  },
};

// An arc that leaves one word and comes down on another, with a head; to itself, a loop. -> where it is highest.
function drawArc(context, places, from, to, {up, room, right, seen, colour, line}) {
  const middle = ([x, , w]) => x + w / 2;
  const side = Math.sign(to - from) || 1;
  const start = middle(places[from]) + side * (from === to ? -7 : 4);
  const end = middle(places[to]) + (from === to ? 7 : -side * 4);
  const foot = places[from][1] + (up > 0 ? TALL + 3 : -3);
  const tip = foot + up * 5;
  const far = Math.abs(end - start);
  const rise = LOW_ARC + (room - LOW_ARC) * Math.sqrt(far / Math.max(far, right));
  const top = foot + up * rise;
  const high = [(start + end) / 2, foot + up * (0.75 * rise + 0.6)];
  if (Math.max(start, end) < seen.left || Math.min(start, end) > seen.right) return high;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = line;
  context.beginPath();
  context.moveTo(start, foot);
  context.bezierCurveTo(start, top, end, top, end, tip);
  context.stroke();
  context.beginPath();
  context.moveTo(end, foot - up);
  context.lineTo(end - 4, tip + up * 3);
  context.lineTo(end + 4, tip + up * 3);
  context.fill();
  return high;
}
