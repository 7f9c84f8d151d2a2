// Names in words under small maps, and the range of maps that are even: from 0 to 100 %, so that they look even.

const BADGE = 15; // pixels of the line under a map

function badgesOf({data}) {
  return Object.values(data.badges ?? {});
}

function badgeOf({data}, {row, column}) {
  return data.badges?.[`${row},${column}`] ?? null;
}

function badgeHeight(view) {
  return badgesOf(view).length ? BADGE : 0;
}

function isEven(view, cell) {
  return badgeOf(view, cell)?.even ?? false;
}

function evenCells({data}) {
  return Object.keys(data.badges ?? {}).filter((cell) => data.badges[cell].even);
}

// The scale of shares from none to all, for maps that would fill a range of their own with next to nothing.
function wholeRange(view) {
  return badgesOf(view).some(({even}) => even) ? makeScale(view.data.scale, ofNumbers([1], false), false) : null;
}

// Whole where there is room for it, else short.
function drawBadges(view, {cells, tile, titled}) {
  const {context, ink} = view;
  for (const cell of cells) {
    const badge = badgeOf(view, cell);
    if (!badge) continue;
    context.font = `600 11px ${ink.font}`;
    const text = context.measureText(badge.title).width <= tile + 2 ? badge.title : badge.short;
    context.fillStyle = badge.even ? ink.muted : ink.text;
    context.fillText(text, cell.x, cell.y + tile + (titled ? TITLE : 0) + 12, tile + 2);
  }
}
