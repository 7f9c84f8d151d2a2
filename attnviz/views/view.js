// One view: a few lines, because they travel with every message. What it does is in the library, which may come later.
export default function (component) {
  const shared = (globalThis.__attnviz ??= {records: new Map(), signals: new EventTarget(), draws: {}, views: {}});
  const root = component.parentElement.querySelector(".view");
  root.style.minHeight = `${component.data.height}px`;
  const show = () => shared.show?.(root, component);
  root.unlisten?.();
  shared.signals.addEventListener("library", show);
  root.unlisten = () => shared.signals.removeEventListener("library", show);
  show();
  return () => {
    root.unlisten();
    shared.hide?.(root);
  };
}
