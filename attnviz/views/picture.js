// The picture, with the row of one token over it: point at a patch to see what it attends to.

const SHARP = 64; // pixels: a picture that is less wide is drawn as the squares it is made of

function pictureBoxes(view, record) {
  const {model_input: network} = view.data;
  const [width, height] = record.size;
  return network ? gridBoxes(view, record.keys, 1, WHOLE) : gridBoxes(view, record.keys, width / height, record.crop);
}

// The base: in its own colours, but grey under colours that are weights, so that these mean nothing else.
function drawPicture(view, record, boxes, {grey, network}) {
  const {context, ink} = view;
  const [x, y, w, h] = boxes.window;
  const image = network ? record.network : record.picture;
  const base = grey ? greyOf(record, image, network) : image;
  context.imageSmoothingEnabled = !network && image.width >= SHARP;
  context.imageSmoothingQuality = "high";
  context.drawImage(base, x, y, w, h);
  if (network) return;
  context.fillStyle = ink.ground;
  context.globalAlpha = 0.6;
  context.beginPath(); // what the network did not see
  context.rect(x, y, w, h);
  context.rect(...boxes.crop);
  context.fill("evenodd");
  context.globalAlpha = 1;
}

function greyOf(record, image, network) {
  const name = network ? "greyNetwork" : "greyPicture";
  if (record[name]) return record[name];
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, image.width, image.height);
  return (record[name] = canvas);
}

// Whether weight is light over a picture: what is signed has no least light and keeps its colours.
function isLight({overlay}, signed) {
  return overlay === "light" && !signed;
}

// What lies over the picture for each step of the colour table. Light: the less weight, the darker. Colour: the less
// weight, the more the picture shines through.
function veilOf({data}, table, signed) {
  const light = isLight(data, signed);
  return Uint32Array.from(table, (colour, step) => {
    const strength = signed ? Math.abs(step - 127.5) / 127.5 : step / 255;
    const alpha = data.opacity * (light ? 1 - strength : 0.7 + 0.6 * strength);
    return (light ? 0 : colour & 0xffffff) | (Math.round(255 * Math.min(1, alpha)) << 24);
  });
}

// Steps of the colour table, as they lie over a picture. Where weight is light, a key without a step, masked or cut away,
// is as dark as one without weight: with nothing over it, it would be the brightest of all.
function litSteps(data, index, signed) {
  return isLight(data, signed) ? index.map((step) => Math.max(0, step)) : index;
}

// The map over the picture, as exact cells or smooth between their middles. Hatched where keys are `masked`.
function drawOverlay(view, boxes, {table, index, scale}, masked) {
  const [rows, columns] = boxes.tokens.grid;
  const lying = {rows, columns, first: boxes.tokens.prefix};
  const {context, data} = view;
  const times = data.smooth ? Math.max(1, Math.min(16, Math.floor(512 / Math.max(rows, columns)))) : 1;
  const steps = interpolated(litSteps(data, index, scale.signed), lying, times);
  const veil = veilOf(view, table, scale.signed);
  const image = pixels(times * columns, times * rows, (out) => {
    for (let i = 0; i < out.length; i++) if (steps[i] >= 0) out[i] = veil[steps[i]];
  });
  context.imageSmoothingEnabled = data.smooth;
  context.drawImage(image, ...boxes.crop);
  if (!masked) return;
  context.globalAlpha = data.opacity;
  drawHatch(view, ...maskedBoxes(index, lying, boxes.crop));
  context.globalAlpha = 1;
}

// Steps of the colour table on a grid `times` as fine, linear between the middles of cells. A cell without a step stays
// without one, and lends nothing to those around it.
function interpolated(index, {rows, columns, first}, times) {
  const at = (row, column) => index[first + row * columns + column];
  const around = (place, size) => {
    const middle = Math.min(size - 1, Math.max(0, (place + 0.5) / times - 0.5));
    const low = Math.floor(middle);
    return [low, Math.min(size - 1, low + 1), middle - low];
  };
  return Int16Array.from({length: rows * columns * times * times}, (_, i) => {
    const [y, x] = [Math.floor(i / (columns * times)), i % (columns * times)];
    const own = at(Math.floor(y / times), Math.floor(x / times));
    if (own < 0 || times === 1) return own;
    const [top, bottom, down] = around(y, rows);
    const [left, right, along] = around(x, columns);
    let [sum, whole] = [0, 0];
    for (const [row, tall] of [
      [top, 1 - down],
      [bottom, down],
    ]) {
      for (const [column, wide] of [
        [left, 1 - along],
        [right, along],
      ]) {
        const step = at(row, column);
        if (step < 0) continue;
        sum += tall * wide * step;
        whole += tall * wide;
      }
    }
    return Math.round(sum / whole);
  });
}

function pictureMaps(view, record) {
  const maps = recordOf(view.maps);
  const fits = hasMap(maps, view.index) && maps.keys.count === record.keys.count;
  return fits ? maps : null;
}

// The tokens whose row is shown: those of this picture, or of the other one that is asked in.
function askedWith(view, tokens) {
  return active(view.data.asked_in == null ? view : (shared.views[view.data.asked_in] ?? {tokens: []}), tokens);
}

const pictureView = {
  clears: true,
  at(view, x, y) {
    const record = recordOf(view.data.picture);
    const token = record ? tokenUnder(pictureBoxes(view, record), x, y) : null;
    return token == null ? null : {token};
  },
  move(view, hit, arrow) {
    const record = recordOf(view.data.picture);
    return record && {token: step(pictureBoxes(view, record), hit?.token ?? view.tokens[0], arrow)};
  },
  places: (view, {token}) => ({query: placeOf(recordOf(view.data.picture).keys, token), key: null}),
  pick: (view, {token}) => toggle(view, token),
  where: (view, token) => boxOf(pictureBoxes(view, recordOf(view.data.picture)), token),

  paint(view) {
    const record = recordOf(view.data.picture);
    if (!record) return null;
    const boxes = pictureBoxes(view, record);
    const maps = pictureMaps(view, record);
    const queries = maps ? askedWith(view, maps.queries) : [];
    const shown = maps && (queries.length > 0 || !maps.square);
    resize(view, boxes.bottom);
    const grey = shown && !isLight(view.data, maps.signed);
    drawPicture(view, record, boxes, {grey, network: view.data.model_input});
    if (!shown) {
      drawLines(view, boxes, 0.22);
      drawPrefix(view, boxes, () => null);
      if (view.data.removal) return this.removal(view, record, boxes);
      markTokens(view, boxes);
      return this.idle(view, record);
    }
    return this.overlay(view, boxes, maps, queries);
  },

  boxes: (view) => {
    const record = recordOf(view.data.picture);
    return record && pictureBoxes(view, record);
  },

  removal(view, record, boxes) {
    const gone = view.tokens.filter((token) => token < record.keys.count);
    drawGone(
      view,
      gone.map((token) => boxOf(boxes, token)),
    );
    drawSweep(view);
    const over = hovered(record.keys);
    if (over != null) outline(view.context, boxOf(boxes, over), view.ink.query);
    const sentence = removalWords(view, record.keys, over);
    return {sentence, tip: over == null ? "" : sentence, tipAt: this.tipAt(view, boxes)};
  },

  overlay(view, boxes, maps, queries) {
    const {data} = view;
    const drop = data.hide_special;
    const over = data.asked_in == null || !maps.square ? hovered(maps.keys) : null;
    const fixed = data.shared ? commonScale([maps], queries, data.scale, drop) : null;
    const row = paintRow(maps, view.index, queries, {
      name: data.scale,
      colours: isLight(data, maps.signed) ? "gray" : data.colours,
      drop,
      fixed,
      rowRange: data.row_range,
      mass: data.mass,
    });
    drawOverlay(view, boxes, row, maps.hasMasked);
    drawLines(view, boxes, 0.1);
    const colour = (index) => (row.index[index] < 0 ? null : css(row.table[row.index[index]]));
    drawPrefix(view, boxes, colour, (index) => row.index[index] === -1);
    const key = tokenAt(maps.keys, shared.hover?.key);
    const words = rowWords(maps, view.index, queries, drop, maps.square ? key : over, bestNamed(view, queries));
    markTokens(view, boxes, {best: maps.square ? words.best : null, keys: maps.keys});
    const range = data.shared ? "colour scale: shared" : "";
    const note = [range, massNote(data), gapsNote(maps, view.index, queries, drop)].filter(Boolean).join("; ");
    return {
      sentence: words.sentence,
      tip: words.sentence + (data.asked_in == null ? received(view, maps, over, drop) : ""),
      tipAt: this.tipAt(view, boxes),
      legend: {scale: row.scale, table: row.table, unit: maps.unit, note},
      marks: {
        selected: view.tokens.some((token) => token < maps.keys.count),
        best: maps.square && words.best != null,
        guess: data.guess != null,
      },
    };
  },

  tipAt(view, boxes) {
    if (view.pointer) return view.pointer;
    if (!view.cursor) return null;
    const [x, y, w, h] = boxOf(boxes, view.cursor.token);
    return [x + w, y + h];
  },

  idle(view, record) {
    const over = hovered(record.keys) ?? (view.data.maps ? null : view.tokens[0]);
    const cropped = record.crop.some((edge, i) => Math.abs(edge - WHOLE[i]) > 0.001);
    const outside = cropped ? "outside of the square: not in the model input" : "";
    const note = view.data.model_input ? "model input" : outside;
    if (view.data.asks)
      return askedFor(record.keys, hovered(record.keys), this.tipAt(view, pictureBoxes(view, record)), note);
    if (over != null) {
      const name = capital(fullName(record.keys, over));
      return {sentence: name, tip: name, note};
    }
    if (!view.data.maps) return {sentence: "The picture, cut into the patches that the model reads", note};
    const asked = view.data.asked_in == null ? "what it attends to" : "what matches it in the other picture";
    const sentence =
      recordOf(view.maps) || view.data.asked_in != null ? `Point at or tap a patch to see ${asked}` : "Loading the map";
    return {sentence, note};
  },
};
