// Two columns of words: a line from each query to every key it looks at, one colour a head, thicker where it gives more.

const LINE = 24, TOP = 22, MOST = 3000; // pixels a word, pixels above them; lines drawn at once while nothing is chosen

// Where both columns lie: words end at `left` and begin at `right`, boxes of the heads beside them.
function columnBoxes(view, record) {
  const {context, ink} = view;
  context.font = `14px ${ink.font}`;
  const room = view.width * 0.32, wide = (tokens) => tokens.labels.reduce((most, label) => {
    return Math.max(most, context.measureText(label).width);
  }, 0);
  const bars = Math.min(60, 8 * view.data.heads.length) + 8, edge = (tokens) => Math.min(room, wide(tokens) + 8) + bars;
  const gap = Math.min(view.width - edge(record.queries) - edge(record.keys), 460);
  const left = edge(record.queries), right = left + Math.max(60, gap);
  return {left, right, bars, room, end: right + edge(record.keys)};
}

const linesView = {
  clears: true,
  wide: true,
  record(view) {
    const record = recordOf(view.maps);
    return record?.square && !record.signed ? record : null;
  },
  heads: (view, record) => view.data.heads.filter((head) => head < record.shape[0]),
  at(view, x, y) {
    const record = this.record(view);
    if (!record || !view.context) return null;
    const {left, right} = columnBoxes(view, record), index = Math.floor((y - TOP) / LINE);
    const side = x < (left + right) / 2 ? "query" : "key";
    const count = side === "query" ? record.queries.count : record.keys.count;
    return index >= 0 && index < count ? {side, index} : null;
  },
  move(view, hit, [down, right]) {
    const record = this.record(view);
    if (!record) return null;
    const from = hit ?? {side: "query", index: view.tokens[0] ?? -1};
    const side = right > 0 ? "key" : right < 0 ? "query" : from.side;
    const count = side === "query" ? record.queries.count : record.keys.count;
    return {side, index: Math.min(count - 1, Math.max(0, from.index + down))};
  },
  places(view, {side, index}) {
    const record = this.record(view), place = placeOf(side === "query" ? record.queries : record.keys, index);
    return side === "query" ? {query: place, key: null} : {query: null, key: place};
  },
  pick(view, {side, index}, add) {
    if (side === "query") toggle(view, index, add);
  },
  where(view, {side, index}) { // for tests: the middle of a word
    const {left, right} = columnBoxes(view, this.record(view));
    return [side === "query" ? left - 20 : right + 20, TOP + (index + 0.5) * LINE];
  },

  // Queries whose lines are shown, and the key they are asked about; without either, all.
  asked(view, record) {
    const key = tokenAt(record.keys, shared.hover?.key), own = hovered(record.queries);
    if (own == null && key != null) return {queries: [], key};
    return {queries: active(view, record.queries), key: null};
  },

  paint(view) {
    const record = this.record(view);
    if (!record) return null;
    const boxes = columnBoxes(view, record), heads = this.heads(view, record), asked = this.asked(view, record);
    resize(view, TOP + LINE * Math.max(record.queries.count, record.keys.count) + 6);
    const lines = this.lines(view, record, heads, asked);
    this.titles(view, boxes);
    this.draw(view, boxes, lines.shown, asked);
    this.columns(view, record, boxes, heads, asked);
    return this.words(view, record, heads, asked, lines.hidden);
  },

  // Every line to draw as [weight, query, key, head], weakest first, and how many were left out for being too many.
  lines(view, record, heads, {queries, key}) {
    const every = [], rows = queries.length ? queries : Array.from({length: record.queries.count}, (_, i) => i);
    for (const head of heads) {
      for (const query of rows) {
        const row = rowIndex(record, head, query);
        for (let k = key ?? 0; k <= (key ?? record.keys.count - 1); k++) {
          const weight = valueOf(record, row, k);
          if (weight >= view.data.least && weight > 0) every.push([weight, query, k, head]);
        }
      }
    }
    every.sort((a, b) => a[0] - b[0]);
    const shown = every.slice(-MOST);
    return {shown, hidden: every.length - shown.length};
  },

  draw({context, data}, {left, right}, lines, {queries, key}) {
    const most = lines.at(-1)?.[0] ?? 1, calm = queries.length || key != null ? 0.95 : 0.6;
    context.lineCap = "round";
    for (const [weight, query, k, head] of lines) {
      const shift = (data.heads.indexOf(head) - (data.heads.length - 1) / 2) * 1.5; // heads on one pair stay apart
      const [from, to] = [TOP + (query + 0.5) * LINE + shift, TOP + (k + 0.5) * LINE + shift];
      context.globalAlpha = calm * Math.max(0.04, weight / most);
      context.strokeStyle = data.paint[head];
      context.lineWidth = 0.75 + 2.5 * (weight / most);
      context.beginPath();
      context.moveTo(left + 4, from);
      context.bezierCurveTo(left + (right - left) * 0.4, from, left + (right - left) * 0.6, to, right - 4, to);
      context.stroke();
    }
    context.globalAlpha = 1;
  },

  titles({context, ink, width}, {left, right}) {
    context.font = `600 12px ${ink.font}`;
    context.textAlign = "right";
    context.fillStyle = ink.query;
    context.fillText("query: who looks", Math.max(left, 104), 12);
    context.textAlign = "left";
    context.fillStyle = ink.key;
    const title = "key: who is looked at";
    context.fillText(title, Math.min(right, width - context.measureText(title).width - 2), 12);
  },

  // The words, and beside them how much each shown head gives: to the keys, or from the queries to one key.
  columns(view, record, boxes, heads, {queries, key}) {
    const {context, ink} = view, {left, right, bars, room} = boxes;
    const word = (tokens, index, x, side, marked) => {
      const y = TOP + (index + 0.5) * LINE, colour = side === "query" ? ink.query : ink.key;
      context.fillStyle = marked ? colour : ink.text;
      context.font = `${marked ? "600 " : ""}14px ${ink.font}`;
      context.textAlign = side === "query" ? "right" : "left";
      context.fillText(tokens.labels[index], x, y + 5, room);
    };
    const given = (index) => heads.map((head) => {
      if (key != null) return valueOf(record, rowIndex(record, head, index), key);
      return queries.reduce((sum, query) => sum + valueOf(record, rowIndex(record, head, query), index), 0);
    });
    const beside = key != null ? record.queries.count : queries.length ? record.keys.count : 0;
    const table = Array.from({length: beside}, (_, i) => given(i)), most = Math.max(1e-9, ...table.flat());
    const wide = (bars - 8) / Math.max(1, heads.length);
    table.forEach((row, index) => row.forEach((weight, at) => {
      context.globalAlpha = Math.max(0, weight / most);
      context.fillStyle = view.data.paint[heads[at]];
      const x = key != null ? left - 4 - wide * (heads.length - at) : right + 4 + wide * at;
      context.fillRect(x, TOP + index * LINE + 2, Math.max(1, wide - 1), LINE - 4);
    }));
    context.globalAlpha = 1;
    for (let i = 0; i < record.queries.count; i++) word(record.queries, i, left - bars, "query", queries.includes(i));
    for (let i = 0; i < record.keys.count; i++) word(record.keys, i, right + bars, "key", i === key);
    context.textAlign = "left";
  },

  words(view, record, heads, {queries, key}, hidden) {
    const many = hidden ? `the ${MOST.toLocaleString("en")} strongest lines of ${(hidden + MOST).toLocaleString("en")}` : "";
    const cut = view.data.least > 0 ? `lines below ${written(view.data.least, "percent")} left out` : "";
    const note = [cut, many].filter(Boolean).join("; ");
    if (!heads.length) return {sentence: "Choose a head", note};
    const named = (head) => record.titles[head];
    if (key != null) {
      const each = heads.flatMap((head) => Array.from({length: record.queries.count}, (_, query) => {
        return [valueOf(record, rowIndex(record, head, query), key), query, head];
      }));
      const [weight, query, head] = each.reduce((a, b) => (b[0] > a[0] ? b : a));
      const amount = written(weight, record.unit), who = capital(nameOf(record.keys, key));
      const sentence = `${who} gets most, ${amount}, from ${nameOf(record.queries, query)} (${named(head).toLowerCase()})`;
      return {sentence, tip: sentence, note};
    }
    if (!queries.length) return {sentence: "Point at a word to see where it looks; on the right, who looks at it", note};
    const each = heads.map((head) => {
      const {best, values, sentence} = rowWords(record, head, queries, false, null);
      return [values[best] ?? 0, `${named(head)}: ${sentence}`];
    });
    const [, sentence] = each.reduce((a, b) => (b[0] > a[0] ? b : a));
    return {sentence, tip: sentence, note};
  },
};
