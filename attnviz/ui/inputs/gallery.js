// The sample pictures: real buttons, so that keyboard and screen readers work by themselves.
export default function ({data, parentElement, setTriggerValue}) {
  const gallery = parentElement.querySelector(".gallery");
  const shown = [...gallery.children].map((button) => button.dataset.name).join();
  if (shown !== data.pictures.map((picture) => picture.name).join()) {
    gallery.replaceChildren(...data.pictures.map(buttonFor));
  }
  parentElement.host.dataset.placed = ""; // what stands below may show, see app.css
  for (const [index, button] of [...gallery.children].entries()) {
    button.querySelector("img").src = data.pictures[index].address;
    mark(button, button.dataset.name === data.chosen);
    button.onclick = () => {
      for (const other of gallery.children) mark(other, other === button); // at once, before the server answers
      setTriggerValue("name", button.dataset.name);
    };
  }
}

function buttonFor({name, label}) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.name = name;
  const picture = document.createElement("img");
  picture.alt = "";
  picture.draggable = false;
  const text = document.createElement("span");
  text.textContent = label;
  button.title = label;
  button.append(picture, text);
  return button;
}

function mark(button, chosen) {
  button.setAttribute("aria-pressed", String(chosen));
}
