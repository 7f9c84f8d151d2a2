// What is asked about stays in sight: in a text longer than its window, the query and its strongest keys are kept at the
// edges that they have left, and a view scrolls to what is chosen.

const PARTNERS = 5; // strongest keys of a query, or queries of a key, that are kept in the window

// The places of the largest positive numbers, at most `count` of them, in the order of the text.
function strongestFew(values, count = PARTNERS) {
  const found = [...values.keys()].filter((i) => values[i] > 0);
  found.sort((a, b) => values[b] - values[a] || a - b);
  return found.slice(0, count).sort((a, b) => a - b);
}

// Where boxes [start, size] begin that stay between two edges: in their places, or one after another at an edge. They
// are in order and do not overlap; where there is too little room for all, they do.
function keptInside(boxes, low, high) {
  const sizes = boxes.map(([, size]) => size);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const shrink = Math.min(1, (high - low) / Math.max(1, total));
  let before = 0;
  return boxes.map(([start, size]) => {
    const least = low + before * shrink;
    const most = high - (total - before) * shrink;
    before += size;
    return Math.min(Math.max(start, least), Math.max(most, least));
  });
}

function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// Scrolls a view to the box of what is chosen [x, y, width, height], with as many of the other boxes as fit beside it.
function bringIntoSight(view) {
  const {stage} = view;
  const boxes = kindOf(view).sight?.(view) ?? [];
  if (!boxes.length) return false;
  const [first, ...others] = boxes;
  let box = first;
  for (const other of others) {
    const joint = around(box, other);
    if (joint[2] + 48 <= stage.clientWidth && joint[3] + 48 <= stage.clientHeight) box = joint;
  }
  reveal(view, box, view.arrived && !calm() ? "smooth" : "auto");
  view.arrived = true;
  return true;
}

function around([x, y, w, h], [left, top, wide, tall]) {
  const [from, above] = [Math.min(x, left), Math.min(y, top)];
  return [from, above, Math.max(x + w, left + wide) - from, Math.max(y + h, top + tall) - above];
}

// A view that was clicked and is only partly in the browser's window moves into it.
function bringView({stage}) {
  if (stage.style.maxHeight || stage.scrollWidth > stage.clientWidth)
    stage.scrollIntoView({block: "nearest", behavior: calm() ? "auto" : "smooth"});
}
