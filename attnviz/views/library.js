// Last part of the library: registers the views and tells those that are waiting.
export default function ({data, parentElement}) {
  const box = parentElement.host?.closest("[data-testid=stElementContainer]");
  if (box) box.style.position = "absolute";
}
