// A transformer in one line. Parts that a page shows are buttons, the others are words.
const PARTS = ["input", "embeddings", "+", "positions", "→", ["queries_keys", "→", "heads", "→", "MLP"], "→", "answer"];
const ABOUT_THE_WHOLE = ["follow", "explain", "test"];

export default function ({data, parentElement, setTriggerValue}) {
  parentElement.host.dataset.placed = ""; // what stands below may show, see app.css
  const map = parentElement.querySelector(".map");
  map.replaceChildren(...[...PARTS, ...ABOUT_THE_WHOLE].map((part) => drawn(part, data)));
  for (const button of map.querySelectorAll("button")) {
    button.onclick = () => setTriggerValue("page", button.dataset.page);
  }
  const here = map.querySelector("[aria-current]");
  if (here) map.scrollLeft = here.offsetLeft - (map.clientWidth - here.offsetWidth) / 2;
}

function drawn(part, data) {
  if (Array.isArray(part)) {
    const block = element("span", "block", "");
    block.append(...part.map((inner) => drawn(inner, data)), element("sub", "times", "× layers"));
    return block;
  }
  const title = data.titles[part];
  if (title === undefined) {
    const sign = part === "→" || part === "+";
    const shown = element("span", sign ? "sign" : "part", part);
    if (sign) shown.setAttribute("aria-hidden", "true");
    return shown;
  }
  const button = element("button", part, title);
  button.type = "button";
  button.dataset.page = part;
  if (part === data.here) button.setAttribute("aria-current", "page");
  return button;
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}
