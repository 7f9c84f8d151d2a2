// One colour per token, for instance the first three principal components of their vectors.
const coloursView = {
  clears: true,
  boxes(view, record) {
    const picture = recordOf(view.data.picture);
    if (picture) return gridBoxes(view, record.keys, picture.size[0] / picture.size[1], picture.crop);
    const [rows, columns] = record.keys.grid;
    return gridBoxes(view, record.keys, columns / rows, WHOLE);
  },
  record(view) {
    const record = recordOf(view.data.source);
    return record && view.data.index < record.shape[0] ? record : null;
  },
  at(view, x, y) {
    const record = this.record(view);
    const token = record ? tokenUnder(this.boxes(view, record), x, y) : null;
    return token == null ? null : {token};
  },
  move(view, hit, arrow) {
    const record = this.record(view);
    return record && {token: step(this.boxes(view, record), hit?.token ?? view.tokens[0], arrow)};
  },
  places(view, {token}) {
    return {query: placeOf(this.record(view).keys, token), key: null};
  },
  pick: (view, {token}) => toggle(view, token),

  paint(view) {
    const record = this.record(view);
    if (!record || (view.data.picture && !recordOf(view.data.picture))) return null;
    const boxes = this.boxes(view, record);
    const {context} = view;
    const picture = recordOf(view.data.picture);
    const start = view.data.index * record.keys.count;
    const at = (token) => record.rgb.subarray(3 * (start + token), 3 * (start + token) + 3);
    const [rows, columns] = record.keys.grid;
    resize(view, boxes.bottom);
    if (picture) drawPicture(view, picture, boxes, {grey: true, network: false});
    const image = pixels(columns, rows, (out) => {
      for (let i = 0; i < out.length; i++) {
        const [r, g, b] = at(record.keys.prefix + i);
        out[i] = ((picture ? 0xd0 : 0xff) << 24) | (b << 16) | (g << 8) | r;
      }
    });
    context.imageSmoothingEnabled = false;
    context.drawImage(image, ...boxes.crop);
    drawPrefix(view, boxes, (token) => `rgb(${at(token).join(" ")})`);
    markTokens(view, boxes);
    return {...this.words(view, record), tipAt: pictureView.tipAt(view, boxes)};
  },

  words(view, record) {
    const [token] = active(view, record.keys);
    const title = record.titles[view.data.index];
    const note = view.data.note || `${title}: similar colours mean similar vectors`;
    if (token == null) return {sentence: "Point at or tap a patch to find it in every view", note};
    const tip = view.data.tips?.[token];
    const name = capital(fullName(record.keys, token)) + (tip ? `: ${tip}` : "");
    return {sentence: name, tip: name, note};
  },
};
