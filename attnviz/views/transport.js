// One record into the browser's memory. Opened by record.js: at once, or as soon as the library is there.
export default function ({data, parentElement}) {
  const shared = (globalThis.__attnviz ??= {records: new Map(), signals: new EventTarget(), draws: {}, views: {}});
  const box = parentElement.host?.closest("[data-testid=stElementContainer]");
  if (box) box.style.position = "absolute"; // invisible: takes no gap between the elements around it
  const size = new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + size)));
  const record = {...head, packed: data.slice(4 + size)};
  shared.records.set(head.name, record);
  shared.open?.(record);
  return () => {
    if (shared.records.get(head.name) !== record) return; // a newer one lives there
    shared.records.delete(head.name);
    shared.opened?.delete(head.name); // else it would be shown for a moment when the page comes back
  };
}
