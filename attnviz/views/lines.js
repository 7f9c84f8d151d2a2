// Two columns of words: a line from each query to every key it attends to, one colour a head, thicker for more weight.

// pixels a word, pixels above them; lines drawn at once while nothing is chosen
const LINE = 24;
const TOP = 24;
const MOST = 3000;

// Where both columns lie: words end at `left` and begin at `right`, boxes of the heads beside them.
function columnBoxes(view, record) {
  const {context, ink} = view;
  context.font = `14px ${ink.font}`;
  const room = view.width * 0.32;
  const wide = (tokens) =>
    (tokens.widest ??= tokens.labels.reduce((most, label) => {
      return Math.max(most, context.measureText(label).width);
    }, 0));
  const bars = Math.min(60, 8 * linesView.heads(view, record).length) + 8;
  const arrow = TOP + LINE * Math.max(record.queries.count, record.keys.count) > view.data.height ? 16 : 0; // see word()
  const edge = (tokens) => Math.min(room, wide(tokens) + 8) + bars + arrow;
  const gap = Math.min(view.width - edge(record.queries) - edge(record.keys), 460);
  const left = edge(record.queries);
  const right = left + Math.max(60, gap);
  return {left, right, bars, room, end: right + edge(record.keys)};
}

function heightOfLine(index) {
  return TOP + (index + 0.5) * LINE;
}

// Which words of either side stay in the window: what is asked about, and what it has most to do with.
function keptWords({queries, key}, table) {
  const partners = strongestFew(table.map((row) => row.reduce((sum, weight) => sum + weight, 0)));
  return key != null ? {query: partners, key: [key]} : {query: [...queries].sort((a, b) => a - b), key: partners};
}

// How high they stand: in their line, or at the edge of the window that it has left.
function pinnedHeights(kept, {top, bottom}) {
  const heights = {};
  for (const side of ["query", "key"]) {
    const lines = kept[side].map((index) => [heightOfLine(index) - LINE / 2, LINE]);
    const found = keptInside(lines, top + TOP, bottom);
    heights[side] = new Map(kept[side].map((index, i) => [index, found[i] + LINE / 2]));
  }
  return heights;
}

const linesView = {
  clears: true,
  wide: true,
  scrolls: true,
  record(view) {
    const record = recordOf(view.maps);
    return record?.square && !record.signed ? record : null;
  },
  heads({index, data}, record) {
    // the one that is open, then the others
    return [...new Set(index == null ? data.heads : [index, ...data.heads])].filter((head) => head < record.shape[0]);
  },
  at(view, x, y) {
    const record = this.record(view);
    if (!record || !view.context || y - view.stage.scrollTop < TOP - 4) return null; // the titles hide what is there
    const {left, right} = columnBoxes(view, record);
    const side = x < (left + right) / 2 ? "query" : "key";
    const moved = this.movedAt(view, side, y);
    if (moved != null) return {side, index: moved, moved: true};
    const index = Math.floor((y - TOP) / LINE);
    const count = side === "query" ? record.queries.count : record.keys.count;
    return index >= 0 && index < count ? {side, index} : null;
  },
  // The word that stands there although its line is elsewhere.
  movedAt({heights}, side, y) {
    const found = [...(heights?.[side] ?? [])].filter(([index, height]) => height !== heightOfLine(index));
    return found.findLast(([, height]) => Math.abs(y - height) <= LINE / 2)?.[0];
  },
  move(view, hit, [down, right]) {
    const record = this.record(view);
    if (!record) return null;
    const from = hit ?? {side: "query", index: view.tokens[0] ?? -1};
    let {side} = from;
    if (right > 0) side = "key";
    if (right < 0) side = "query";
    const count = side === "query" ? record.queries.count : record.keys.count;
    return {side, index: Math.min(count - 1, Math.max(0, from.index + down))};
  },
  places(view, {side, index}) {
    const record = this.record(view);
    const place = placeOf(side === "query" ? record.queries : record.keys, index);
    return side === "query" ? {query: place, key: null} : {query: null, key: place};
  },
  // A query is chosen; a key that was kept in the window leads to its line.
  pick(view, {side, index, moved}) {
    if (side === "query") toggle(view, index);
    else if (moved) reveal(view, [0, heightOfLine(index) - LINE / 2, 1, LINE], calm() ? "auto" : "smooth");
  },
  where(view, {side, index}) {
    // the middle of a word
    const {left, right} = columnBoxes(view, this.record(view));
    return [side === "query" ? left - 20 : right + 20, heightOfLine(index)];
  },
  // The lines of the last chosen query and of its strongest keys.
  sight(view) {
    const record = this.record(view);
    const query = view.tokens.at(-1);
    if (!record || !(query < record.queries.count)) return [];
    const asked = {queries: [query], key: null};
    const keys = keptWords(asked, this.beside(view, record, this.heads(view, record), asked)).key;
    return [query, ...keys].map((index) => [view.stage.scrollLeft + 24, heightOfLine(index) - LINE / 2, 0, LINE]);
  },

  // Queries whose lines are shown, and the key they are asked about; without either, all.
  asked(view, record) {
    const key = tokenAt(record.keys, shared.hover?.key);
    const own = hovered(record.queries);
    if (own == null && key != null) return {queries: [], key};
    return {queries: active(view, record.queries), key: null};
  },

  paint(view) {
    const record = this.record(view);
    if (!record) return recordOf(view.maps) ? unfit(view, "Lines need rows that sum to 1") : null;
    const boxes = columnBoxes(view, record);
    const heads = this.heads(view, record);
    const asked = this.asked(view, record);
    const seen = resize(view, TOP + LINE * Math.max(record.queries.count, record.keys.count) + 6);
    const table = this.beside(view, record, heads, asked);
    const held = view.hit?.moved && shared.hover?.by === view.name; // what is pointed at there must not move away
    view.inSight = held ? view.inSight : keptWords(asked, table);
    view.heights = pinnedHeights(view.inSight, seen);
    boxes.heightOf = (side, index) => view.heights[side].get(index) ?? heightOfLine(index);
    const lines = this.lines(view, record, heads, asked);
    this.draw(view, boxes, heads, lines.shown, asked, seen);
    this.columns(view, record, boxes, {heads, table}, asked, seen);
    this.titles(view, boxes, seen);
    return this.words(view, record, heads, asked, lines.omitted);
  },

  // The lines to draw as [weight, query, key, head], weakest first, and how many were left out for being too many.
  lines(view, record, heads, asked) {
    const {min_weight: minWeight, top_k: topK, top_p: topP, hide_special: drop} = view.data;
    const {shown, total} = keptStrongest(view, record, heads, asked, {minWeight, topK, topP, drop}, MOST);
    return {shown, omitted: total - shown.length};
  },

  // The weight of a query and a key; 0 where that is masked or left out.
  weight({data}, record, head, query, key) {
    const row = rowIndex(record, head, query);
    return valueOf(record, row, key, unitsOf(record, row, data.hide_special)) || 0;
  },

  draw({context, data}, {left, right, heightOf}, heads, lines, {queries, key}, seen) {
    const strongest = lines.at(-1)?.[0] ?? 1;
    const [faint, full] = queries.length || key != null ? [0.3, 0.95] : [0.03, 0.6]; // few lines are all to be seen
    context.lineCap = "round";
    for (const [weight, query, k, head] of lines) {
      const shift = (heads.indexOf(head) - (heads.length - 1) / 2) * 1.5; // heads on one pair stay apart
      const [from, to] = [heightOf("query", query) + shift, heightOf("key", k) + shift];
      if (Math.max(from, to) < seen.top || Math.min(from, to) > seen.bottom) continue;
      context.globalAlpha = faint + (full - faint) * (weight / strongest);
      context.strokeStyle = data.paint[head];
      context.lineWidth = 0.75 + 2.5 * (weight / strongest);
      context.beginPath();
      context.moveTo(left + 4, from);
      context.bezierCurveTo(left + (right - left) * 0.4, from, left + (right - left) * 0.6, to, right - 4, to);
      context.stroke();
    }
    context.globalAlpha = 1;
  },

  // They stay at the top while the words move below them.
  titles({context, ink, width}, {left, right}, {top}) {
    const [query, key] = AXES;
    context.fillStyle = ink.ground;
    context.fillRect(0, top, width, TOP - 3);
    context.font = `600 12px ${ink.font}`;
    context.textAlign = "right";
    context.fillStyle = ink.query;
    context.fillText(query, Math.max(left, context.measureText(query).width + 2), top + 13);
    context.textAlign = "left";
    context.fillStyle = ink.key;
    context.fillText(key, Math.min(right, width - context.measureText(key).width - 2), top + 13);
  },

  // Beside every word of one side, its weight in each shown head: of the queries on every key, or of every query on one.
  beside(view, record, heads, {queries, key}) {
    const weight = (head, query, k) => this.weight(view, record, head, query, k);
    const given = (index) =>
      heads.map((head) => {
        if (key != null) return weight(head, index, key);
        return queries.reduce((sum, query) => sum + weight(head, query, index), 0);
      });
    const keys = queries.length ? record.keys.count : 0;
    return Array.from({length: key != null ? record.queries.count : keys}, (_, index) => given(index));
  },

  // The words and the bars beside them; those that were moved come last, over the words that are there.
  columns(view, record, boxes, {heads, table}, {queries, key}, seen) {
    const first = Math.max(0, Math.floor((seen.top - TOP) / LINE));
    const last = Math.ceil((seen.bottom - TOP) / LINE);
    const most = table.reduce((found, row) => Math.max(found, ...row), 1e-9);
    for (const [side, tokens] of [
      ["query", record.queries],
      ["key", record.keys],
    ]) {
      const barred = (key != null) === (side === "query");
      const marked = (index) => (side === "query" ? queries.includes(index) : index === key);
      const one = (index) => {
        this.word(view, boxes, tokens, {side, index, marked: marked(index)});
        if (barred && table[index]) this.bars(view, boxes, heads, {side, index, row: table[index], most});
      };
      for (let i = first; i < Math.min(last, tokens.count); i++) if (!view.heights[side].has(i)) one(i);
      for (const index of view.heights[side].keys()) if (index < tokens.count) one(index);
    }
    view.context.textAlign = "left";
  },

  word({context, ink}, {left, right, bars, room, heightOf}, tokens, {side, index, marked}) {
    const y = heightOf(side, index);
    const query = side === "query";
    const x = query ? left - bars : right + bars;
    context.font = `${marked ? "600 " : ""}14px ${ink.font}`;
    context.textAlign = query ? "right" : "left";
    const text = fitted(context, tokens.labels[index], room);
    const moved = y !== heightOfLine(index);
    context.fillStyle = ink.ground;
    if (moved) context.fillRect(query ? 0 : right + 2, y - LINE / 2, query ? left - 2 : bars + room + 24, LINE);
    const colour = query ? ink.query : ink.key;
    context.fillStyle = marked ? colour : ink.text;
    context.fillText(moved ? `${text} ${y > heightOfLine(index) ? "↑" : "↓"}` : text, x, y + 5);
  },

  bars({context, data}, {left, right, bars, heightOf}, heads, {side, index, row, most}) {
    const wide = (bars - 8) / Math.max(1, heads.length);
    row.forEach((weight, at) => {
      context.globalAlpha = Math.max(0, weight / most);
      context.fillStyle = data.paint[heads[at]];
      const x = side === "query" ? left - 4 - wide * (heads.length - at) : right + 4 + wide * at;
      context.fillRect(x, heightOf(side, index) - LINE / 2 + 2, Math.max(1, wide - 1), LINE - 4);
    });
    context.globalAlpha = 1;
  },

  words(view, record, heads, {queries, key}, omitted) {
    const many = omitted
      ? `the ${MOST.toLocaleString("en")} strongest lines of ${(omitted + MOST).toLocaleString("en")}`
      : "";
    const {min_weight: minWeight, top_k: topK, top_p: topP, hide_special: drop} = view.data;
    const out = drop && record.keys.special.includes(1);
    const cut = minWeight > 0 && `minimum weight ${written(minWeight, "percent")}`;
    const few = topK > 0 && `top ${topK} keys per query and head`;
    const share = topP < 1 && `the strongest keys up to ${Math.round(100 * topP)} % of a row (top-p)`;
    const note = [out && `${specialWords(record.keys)} left out, rest rescaled`, few, share, cut, many]
      .filter(Boolean)
      .join("; ");
    if (!heads.length) return {sentence: "Choose a head", note};
    const named = (head) => record.titles[head];
    if (key != null) {
      const each = heads.flatMap((head) =>
        Array.from({length: record.queries.count}, (_, query) => {
          return [this.weight(view, record, head, query, key), query, head];
        }),
      );
      const [weight, query, head] = each.reduce((a, b) => (b[0] > a[0] ? b : a));
      if (!weight) return {sentence: `No query attends to ${nameOf(record.keys, key)}`, note};
      const amount = written(weight, record.unit);
      const who = capital(nameOf(record.keys, key));
      const sentence = `${who} receives most, ${amount}, from ${nameOf(record.queries, query)} (${named(head).toLowerCase()})`;
      return {sentence, tip: sentence, note};
    }
    if (!queries.length)
      return {sentence: "Point at or tap a word to see what it attends to; on the right, what attends to it", note};
    const each = heads.map((head) => {
      const {best, values, sentence} = rowWords(record, head, queries, drop, null);
      return [values[best] ?? 0, `${named(head)}: ${sentence}`];
    });
    const [, sentence] = each.reduce((a, b) => (b[0] > a[0] ? b : a));
    return {sentence, tip: sentence, note};
  },
};
