// Walking through the steps: the arrow keys press the buttons of the page, and a new step is shown from its top.
const PLAIN = "button:not([role]), a, [data-testid=stMain], [data-testid=stApp], body, html"; // arrows mean nothing there
const KEYS = {ArrowLeft: "back", ArrowRight: "next"};
const shown = (globalThis.__attnvizLesson ??= {step: null, listens: false, buttons: {}});

function press(event) {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const inside = event.composedPath()[0]; // also within the shadow of a component
  const name = KEYS[event.key];
  if (!name || !inside.matches?.(PLAIN)) return;
  const button = document.querySelector(`.st-key-${shown.buttons[name]} button`); // Streamlit's own name for a widget
  if (!button) return; // another page
  event.preventDefault();
  button.click();
}

// The top of the step, unless it can be seen as it is.
function showTop(mark) {
  const top = mark.getBoundingClientRect().top;
  if (top >= 56 && top < 0.5 * globalThis.innerHeight) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  mark.scrollIntoView({block: "start", behavior: calm ? "auto" : "smooth"});
}

export default function ({data, parentElement}) {
  const mark = parentElement.querySelector(".top");
  parentElement.host.dataset.placed = ""; // what stands below may show, see app.css
  const moved = shown.step !== null && shown.step !== data.step;
  Object.assign(shown, {step: data.step, buttons: data.buttons});
  if (!shown.listens) document.addEventListener("keydown", press);
  shown.listens = true;
  if (moved) requestAnimationFrame(() => showTop(mark));
  return () => (shown.step = null); // the page is left: coming back is no step
}
