// A view as a PNG: all there is to see, scrolled into the window or not, with its sentence and its legend below.

// pixels around the sheet, and between its parts
const PAD = 16;
const APART = 8;

function download(view) {
  const {scrolls} = kindOf(view);
  if (scrolls) paintAs(view, true);
  const {ratio, ink, canvas} = view;
  const width = canvas.width / ratio;
  const height = canvas.height / ratio;
  const sheet = document.createElement("canvas");
  const context = sheet.getContext("2d");
  const parts = [
    textPart(context, view.data.label, width, {weight: 600, size: 15, font: ink.font, colour: ink.text}),
    {tall: height, draw: (y) => context.drawImage(canvas, 0, y, width, height)},
    textPart(context, view.sentence.textContent, width, {size: 14, font: ink.font, colour: ink.text}),
    barPart(context, view),
    textPart(context, view.words.textContent, width, {size: 12, font: ink.font, colour: ink.muted}),
  ].filter(({tall}) => tall);
  sheet.width = (width + 2 * PAD) * ratio;
  sheet.height = parts.reduce((sum, {tall}) => sum + tall + APART, 2 * PAD - APART) * ratio;
  context.fillStyle = ink.ground;
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.setTransform(ratio, 0, 0, ratio, PAD * ratio, PAD * ratio);
  let y = 0;
  for (const {tall, draw} of parts) {
    draw(y);
    y += tall + APART;
  }
  if (scrolls) paintAs(view, false); // before the browser shows anything of it
  sheet.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${(view.data.label || view.name).toLowerCase().replace(/[^a-z0-9]+/g, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}

function paintAs(view, whole) {
  view.whole = whole;
  repaint(view);
}

// A text in as many lines as it needs.
function textPart(context, text, room, {weight = 400, size, font, colour}) {
  const type = `${weight} ${size}px ${font}`;
  const line = size + 6;
  context.font = type;
  const lines = wrapped(context, text, room);
  const draw = (y) => {
    context.font = type;
    context.fillStyle = colour;
    lines.forEach((words, i) => context.fillText(words, 0, y + size + i * line, room));
  };
  return {tall: lines.length * line, draw};
}

function wrapped(context, text, room) {
  const lines = [];
  for (const word of text.split(" ").filter(Boolean)) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length && context.measureText(longer).width <= room) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

// The legend's colours between their least and their most; none where colours stand for no amounts.
function barPart(context, {legend, low, bar, high, ink}) {
  const draw = (y) => {
    context.font = `12px ${ink.font}`;
    context.fillStyle = ink.text;
    const at = context.measureText(low.textContent).width + 8;
    context.fillText(low.textContent, 0, y + 12);
    context.drawImage(bar, at, y + 3, 120, 10);
    context.fillText(high.textContent, at + 128, y + 12);
  };
  return {tall: legend.classList.contains("empty") ? 0 : 18, draw};
}
