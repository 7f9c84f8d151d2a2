// A set of tokens that is taken away as a whole: how what is gone is drawn, and the rectangle that is dragged over patches.

const SLACK = 5; // pixels a pointer may move between down and up and still have clicked

// The patches that a rectangle between two points touches.
function tokensWithin({tokens, crop}, [x0, y0], [x1, y1]) {
  const [rows, columns] = tokens.grid;
  const [left, top, width, height] = crop;
  const span = (a, b, start, size, count) => {
    const [low, high] = [Math.min(a, b), Math.max(a, b)].map((at) => ((at - start) / size) * count);
    return high < 0 || low >= count ? [0, -1] : [Math.max(0, Math.floor(low)), Math.min(count - 1, Math.floor(high))];
  };
  const [r0, r1] = span(y0, y1, top, height, rows);
  const [c0, c1] = span(x0, x1, left, width, columns);
  const found = [];
  for (let row = r0; row <= r1; row++) for (let c = c0; c <= c1; c++) found.push(tokens.prefix + row * columns + c);
  return found;
}

// A rectangle adds its patches to the set; where all are in it already, it takes them out.
function swept(tokens, inside) {
  if (inside.every((token) => tokens.includes(token))) return tokens.filter((token) => !inside.includes(token));
  return [...tokens, ...inside.filter((token) => !tokens.includes(token))];
}

// The drag in hand: from pointer down to pointer up, by a mouse or a pen, because a finger moves the page.
function beginSweep(view, event) {
  const {removal, picture} = view.data; // words are clicked one by one
  const boxes = removal && picture && event.pointerType !== "touch" && kindOf(view).boxes(view);
  view.sweep = boxes ? {from: within(view, event), to: null} : null;
  if (boxes) view.canvas.setPointerCapture?.(event.pointerId);
}

function moveSweep(view, event) {
  const {sweep} = view;
  if (!sweep) return;
  const to = within(view, event);
  if (!sweep.to && Math.hypot(to[0] - sweep.from[0], to[1] - sweep.from[1]) < SLACK) return;
  sweep.to = to;
  schedule(view);
}

// -> whether a rectangle was dragged, so that the click that follows is none.
function endSweep(view) {
  const {sweep} = view;
  view.sweep = null;
  if (!sweep?.to) return false;
  const inside = tokensWithin(kindOf(view).boxes(view), sweep.from, sweep.to);
  if (inside.length) choose(view, swept(view.tokens, inside));
  schedule(view);
  return true;
}

// What is gone: covered by the ground and hatched.
function drawGone(view, boxes) {
  const {context, ink} = view;
  context.save();
  context.globalAlpha = 0.86;
  context.fillStyle = ink.ground;
  for (const box of boxes) context.fillRect(...box);
  context.restore();
  drawHatch(view, ...boxes);
}

function drawSweep({context, ink, sweep}) {
  if (!sweep?.to) return;
  const [[x0, y0], [x1, y1]] = [sweep.from, sweep.to];
  outline(context, [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)], ink.key);
}

// What a view of a set says of the token under the pointer.
function removalWords(view, tokens, over) {
  const gone = view.tokens.length;
  if (over == null)
    return `${gone} of ${tokens.count} tokens are taken away. Click one to take it away or bring it back`;
  return `${capital(fullName(tokens, over))}: ${view.tokens.includes(over) ? "taken away" : "kept"}`;
}
