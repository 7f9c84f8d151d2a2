// A table of numbers as coloured cells with their texts, such as one number for each head; a click picks a cell.

const CELL_GAP = 2; // pixels between cells
const READABLE = 26; // pixels a cell is wide at least

const cellsView = {
  wide: true,
  scrolls: true,

  boxes(view) {
    const {data, context, ink} = view;
    context.font = `13px ${ink.font}`;
    const widest = data.rows.reduce((most, name) => Math.max(most, context.measureText(name).width), 0);
    const left = Math.min(120, Math.ceil(widest) + 12);
    const count = data.columns.length;
    const room = Math.floor((view.width - left - 2 * EDGE) / count);
    const wide = Math.max(READABLE, Math.min(data.cell[0], room));
    const tall = data.cell[1];
    const top = 24;
    return {left, top, wide, tall, right: left + count * wide + EDGE, bottom: top + data.rows.length * tall + EDGE};
  },
  box(view, index) {
    const {left, top, wide, tall} = this.boxes(view);
    const count = view.data.columns.length;
    return [left + (index % count) * wide, top + Math.floor(index / count) * tall, wide - CELL_GAP, tall - CELL_GAP];
  },

  at(view, x, y) {
    if (!view.context) return null;
    const {left, top, wide, tall} = this.boxes(view);
    const [row, column] = [Math.floor((y - top) / tall), Math.floor((x - left) / wide)];
    const {rows, columns} = view.data;
    if (row < 0 || column < 0 || row >= rows.length || column >= columns.length) return null;
    return {cell: row * columns.length + column};
  },
  move(view, hit, [down, right]) {
    const {rows, columns} = view.data;
    if (!hit) return {cell: view.tokens[0] ?? 0};
    const bound = (value, size) => Math.min(size - 1, Math.max(0, value));
    const row = bound(Math.floor(hit.cell / columns.length) + down, rows.length);
    return {cell: row * columns.length + bound((hit.cell % columns.length) + right, columns.length)};
  },
  places: () => ({query: null, key: null}), // cells are no tokens of another view
  pick: (view, {cell}) => toggle(view, cell),
  where: (view, {cell}) => cellsView.box(view, cell),

  paint(view) {
    const {data} = view;
    const boxes = this.boxes(view);
    const scale = cellScale(data);
    const table = tableOf(data.colours, data.signed);
    const seen = resize(view, boxes.bottom, Math.max(view.width, boxes.right));
    data.values.flat().forEach((value, index) => this.cell(view, index, value, {scale, table, seen}));
    this.names(view, boxes);
    for (const index of view.tokens) outline(view.context, this.box(view, index), PICKED, 2);
    if (view.hit) outline(view.context, this.box(view, view.hit.cell), view.ink.query, 2);
    return this.words(view, {scale, table, unit: data.unit});
  },

  cell(view, index, value, {scale, table, seen}) {
    const {context, ink, data} = view;
    const [x, y, w, h] = this.box(view, index);
    if (x > seen.right || x + w < seen.left || y > seen.bottom || y + h < seen.top) return;
    const colour = value == null ? ink.second : css(table[Math.round(scale.t(value) * 255)]);
    context.fillStyle = colour;
    context.fillRect(x, y, w, h);
    const crossed = data.crossed.includes(index);
    const text = data.texts?.flat()[index] ?? "";
    context.fillStyle = context.strokeStyle = value == null ? ink.text : contrast(colour);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `12px ${ink.font}`;
    if (w >= READABLE) context.fillText(fitted(context, text, w - 6), x + w / 2, y + h / 2, w - 4);
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    if (!crossed) return;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(x + 4, y + h - 4);
    context.lineTo(x + w - 4, y + 4);
    context.stroke();
  },

  names(view, {left, top, wide, tall}) {
    const {context, ink, data} = view;
    context.font = `13px ${ink.font}`;
    context.fillStyle = ink.text;
    data.columns.forEach((name, i) =>
      context.fillText(fitted(context, name, wide - 4), left + i * wide, top - 8, wide),
    );
    context.textAlign = "right";
    data.rows.forEach((name, i) => {
      context.fillText(fitted(context, name, left - 10), left - 8, top + i * tall + tall / 2 + 4, left - 10);
    });
    context.textAlign = "left";
  },

  words(view, {scale, table, unit}) {
    const {data, hit} = view;
    const legend = {scale, table, unit, note: data.note};
    if (!hit) return {sentence: data.label, legend};
    const sentence = data.tips.flat()[hit.cell];
    return {sentence, tip: sentence, tipAt: view.pointer ?? cellsView.box(view, hit.cell), legend};
  },
};

// One linear scale for all cells; `limit`: what is the largest colour, else the largest number is.
function cellScale({values, signed, limit}) {
  const numbers = ofNumbers(
    values.flat().filter((value) => value != null),
    signed,
  );
  return makeScale("linear", {...numbers, max: limit ?? numbers.max}, signed);
}
