// A view as a PNG: all there is to see, scrolled into the window or not, with its sentence and its legend below.
function download(view) {
  const {scrolls} = kindOf(view);
  if (scrolls) paintAs(view, true);
  const pad = 16, foot = 78, {ratio, ink, canvas} = view, width = canvas.width / ratio, height = canvas.height / ratio;
  const label = view.data.label ? 26 : 0;
  const sheet = document.createElement("canvas"), context = sheet.getContext("2d");
  sheet.width = (width + 2 * pad) * ratio;
  sheet.height = (height + label + foot + 2 * pad) * ratio;
  context.fillStyle = ink.ground;
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.scale(ratio, ratio);
  context.fillStyle = ink.text;
  context.font = `600 15px ${ink.font}`;
  if (label) context.fillText(view.data.label, pad, pad + 13);
  context.drawImage(view.canvas, pad, pad + label, width, height);
  const top = pad + label + height + 26;
  context.font = `14px ${ink.font}`;
  context.fillText(view.sentence.textContent, pad, top, width);
  if (!view.legend.classList.contains("empty")) legendInto(context, view, pad, top + 30);
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

function legendInto(context, view, x, y) {
  context.font = `12px ${view.ink.font}`;
  const low = view.low.textContent, high = view.high.textContent, at = x + context.measureText(low).width + 8;
  context.fillText(low, x, y);
  context.drawImage(view.bar, at, y - 9, 120, 10);
  context.fillText(high, at + 128, y);
  context.fillStyle = view.ink.muted;
  context.fillText(view.words.textContent, at + 140 + context.measureText(high).width, y);
}
