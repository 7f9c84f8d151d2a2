// One view: few lines, because they travel with every message. What it does is in the library, which may come later.

// The height a canvas will have at this width, known before its record is there, so that nothing moves when it comes.
const HEIGHTS = {
  plane({height, fit: {aspect, prefix}}, width) {
    const side = Math.min((width - 6 - (prefix ? 56 : 0)) / aspect, height - 6) + 6;
    const above = prefix ? Math.min((width - 6) / aspect, height - 40) + 40 : 0;
    return above - 34 > side ? above : side;
  },
  matrix: ({height}, width) => Math.min(height, width),
  text: ({height, fit: {letters}}, width) => Math.min(height, 12 + 38 * Math.ceil((letters * 8.6) / (width - 40))),
  tiles({height, tile, fit: {across, down, left, title}}, width) {
    const size = Math.min(tile, Math.floor((width - left - 4 - (across - 1) * 6) / across));
    return Math.min(height, height - (tile - size) * down);
  },
};

export default function (component) {
  const shared = (globalThis.__attnviz ??= {records: new Map(), signals: new EventTarget(), draws: {}, views: {}});
  const root = component.parentElement.querySelector(".view");
  const {data} = component;
  root.component = component; // the newest call
  root.expected = (width) => (data.fit ? HEIGHTS[data.fit.shape](data, width) : data.height);
  const width = root.getRootNode().host.clientWidth;
  const measured = data.maps || data.values;
  const narrow = width > 260 ? [60, 40] : [76, 60]; // what stands below, as view.css has it: legend and sentence
  const [legend, sentence] = width > 430 || !measured ? [34, width > 260 ? 40 : 60] : narrow;
  const below = legend + sentence + 8;
  if (!root.view) root.style.minHeight = `${Math.ceil(root.expected(width)) + below}px`;
  root.getRootNode().host.dataset.placed = ""; // what stands below may show, see app.css
  const show = () => shared.show?.(root, component);
  root.unlisten?.();
  shared.signals.addEventListener("library", show);
  root.unlisten = () => shared.signals.removeEventListener("library", show);
  show();
  return () => {
    if (root.component !== component) return; // an older call that came late is let go: the view lives on
    root.unlisten();
    shared.hide?.(root);
  };
}
