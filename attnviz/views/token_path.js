// Stages in a column, one of them open, and a scrubber over them. `data` is what token_path.py describes.
const REST = 500; // ms the scrubber rests before Python hears of it
const PACE = 1800; // ms a stage is shown while it plays

const paths = new WeakMap();

export default function ({data, parentElement, setTriggerValue}) {
  const root = parentElement.querySelector(".path");
  const path = paths.get(root) ?? {root, reported: null};
  paths.set(root, path);
  path.tell = setTriggerValue;
  const asked = data.stage !== path.heard && data.stage !== path.reported;
  path.heard = data.stage;
  const seen = JSON.stringify(data.stages) + JSON.stringify(data.scene) + data.token + data.colours.query;
  const index = data.stages.findIndex((stage) => stage.id === (asked ? data.stage : path.stage));
  if (seen !== path.seen) {
    const focused = parentElement.activeElement?.dataset?.focus;
    path.seen = seen;
    build(path, data);
    if (focused) root.querySelector(`[data-focus="${focused}"]`)?.focus({preventScroll: true});
  }
  show(path, Math.max(0, index), false);
  parentElement.host.dataset.placed = ""; // what stands below may show, see app.css
  return () => stop(path);
}

function build(path, data) {
  stop(path);
  path.data = data;
  path.maps = Object.fromEntries(Object.entries(data.scene.maps).map(([name, map]) => [name, unpacked(map)]));
  path.marks = [];
  path.root.replaceChildren(bar(path), columns(path));
}

function bar(path) {
  const range = {type: "range", min: 0, max: path.data.stages.length - 1, step: 1, ariaLabel: "Stage"};
  path.range = Object.assign(element("input"), range);
  path.range.dataset.focus = "range";
  path.range.oninput = () => (stop(path), show(path, Number(path.range.value)));
  path.back = button("‹", "Previous stage", () => (stop(path), show(path, path.index - 1)));
  path.on = button("›", "Next stage", () => (stop(path), show(path, path.index + 1)));
  path.play = button("▶", "Play", () => (path.timer ? stop(path) : play(path)));
  path.title = element("output");
  const made = element("div", "bar");
  made.append(path.back, path.play, path.on, path.range, path.title);
  return made;
}

function play(path) {
  const last = path.data.stages.length - 1;
  if (path.index === last) show(path, 0, false);
  path.play.textContent = "❚❚";
  path.play.ariaLabel = "Pause";
  path.timer = setInterval(() => {
    show(path, path.index + 1, false);
    if (path.index === last) stop(path);
  }, PACE);
}

function stop(path) {
  if (path.timer) report(path); // while it plays, Python is not told of every stage
  clearInterval(path.timer);
  path.timer = null;
  if (path.play) Object.assign(path.play, {textContent: "▶", ariaLabel: "Play"});
}

function columns(path) {
  const made = element("div", "columns");
  made.append(scene(path), stages(path));
  return made;
}

// The picture or the words, with what the stage says of every token.
function scene(path) {
  const {scene: about} = path.data;
  const made = element("div", "scene");
  const first = about.grid ? about.prefix : about.names.length;
  path.words = about.names.slice(0, first).map((name, token) => {
    const word = button(name, name, () => path.tell("token", token));
    word.dataset.focus = `token ${token}`;
    word.onpointerenter = word.onfocus = () => point(path, "token", token);
    return word;
  });
  const words = element("div", "words");
  words.append(...path.words);
  path.legend = element("div", "legend");
  path.said = element("p", "said");
  path.picture = about.grid ? picture(path) : null;
  made.append(words, ...(path.picture ? [path.picture] : []), path.legend, path.said);
  return made;
}

function picture(path) {
  const {scene: about, token} = path.data;
  const canvas = Object.assign(element("canvas"), {width: 640, height: Math.round(640 / about.aspect), tabIndex: 0});
  canvas.dataset.focus = "picture";
  canvas.role = "application";
  canvas.ariaLabel = "Your picture: click a patch to follow it, or choose one with the arrows and Enter";
  path.image = new Image();
  path.image.onload = () => paint(path);
  path.image.src = about.picture;
  path.cursor = token;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * about.grid[1]);
    const row = Math.floor(((event.clientY - box.top) / box.height) * about.grid[0]);
    return about.prefix + clamp(row, about.grid[0]) * about.grid[1] + clamp(column, about.grid[1]);
  };
  canvas.onpointermove = (event) => point(path, "token", at(event));
  canvas.onpointerleave = () => point(path, "token", null);
  canvas.onclick = (event) => path.tell("token", at(event));
  canvas.onkeydown = (event) => moved(path, event);
  return canvas;
}

function moved(path, event) {
  const {grid, prefix} = path.data.scene;
  const by = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid[1], ArrowDown: grid[1]}[event.key];
  if (event.key === "Enter") path.tell("token", path.cursor);
  else if (by) path.cursor = prefix + clamp(Math.max(path.cursor, prefix) - prefix + by, grid[0] * grid[1]);
  else return;
  event.preventDefault();
  point(path, "token", path.cursor);
}

function paint(path) {
  const {stages: all, scene: about, token, weights, colours} = path.data;
  const stage = all[path.index];
  const map = path.maps[stage.map];
  const scale = map ? scaleOf(map, stage.map) : null;
  legend(path, stage, scale);
  for (const [one, word] of path.words.entries()) {
    const share = scale ? scale.share(map[one]) : null;
    word.style.background = share === null ? "" : weights[Math.round(255 * share)];
    word.style.color = share === null ? "" : ["#ffffff", "#000000"][Number(share > 0.42)];
    word.style.borderColor = stage.marked.includes(one) ? colours[stage.role] : "";
    word.classList.toggle("masked", Boolean(scale) && share === null);
    word.setAttribute("aria-pressed", String(one === token));
  }
  if (!path.picture) return;
  const canvas = path.picture.getContext("2d");
  const {width, height} = path.picture;
  canvas.clearRect(0, 0, width, height);
  if (path.image.complete && path.image.naturalWidth) canvas.drawImage(path.image, 0, 0, width, height);
  const [rows, columns] = about.grid;
  const cell = (one) => {
    const place = one - about.prefix;
    return [((place % columns) * width) / columns, (Math.floor(place / columns) * height) / rows];
  };
  const size = [width / columns, height / rows];
  if (scale) {
    for (let one = about.prefix; one < map.length; one++) {
      const share = scale.share(map[one]);
      canvas.globalAlpha = share === null ? 0.85 : 0.7;
      canvas.fillStyle = share === null ? "#808080" : weights[Math.round(255 * share)];
      canvas.fillRect(...cell(one), ...size);
    }
    canvas.globalAlpha = 1;
  }
  const outline = (one, colour, wide) => {
    if (one === null || one < about.prefix) return;
    canvas.lineWidth = wide;
    canvas.strokeStyle = colour;
    canvas.strokeRect(...cell(one), ...size);
  };
  for (const one of stage.marked) {
    outline(one, "#ffffff", 7);
    outline(one, colours[stage.role] ?? "#000000", 4);
  }
  outline(token, "#000000", 9);
  outline(token, "#ffffff", 4);
  if (path.pointed?.kind === "token") {
    outline(path.pointed.index, "#000000", 5);
    outline(path.pointed.index, "#ffffff", 2);
  }
}

function scaleOf(map, name) {
  const finite = map.filter(Number.isFinite);
  const least = name === "weights" ? 0 : Math.min(...finite);
  const most = Math.max(...finite);
  const even = name === "weights" ? Math.sqrt : (share) => share;
  return {
    least,
    most,
    share: (value) => (Number.isFinite(value) ? even(clip((value - least) / (most - least || 1))) : null),
  };
}

function legend(path, stage, scale) {
  path.legend.replaceChildren();
  if (!scale) return;
  const show = (value) => (stage.map === "weights" ? percent(value) : number(value));
  const name = stage.map === "weights" ? "Weight" : "Score";
  const ramp = ramped(256, (at) => path.data.weights[at]);
  const root = stage.map === "weights" ? "square-root scale" : "";
  path.legend.append(`${name} ${show(scale.least)}`, ramp, show(scale.most), element("span", "", root));
}

// The column of stages.

function stages(path) {
  const list = element("ol", "stages");
  path.dot = Object.assign(element("li", "dot"), {ariaHidden: "true"}); // of a list, all children are items
  list.append(path.dot);
  path.items = path.data.stages.map((stage, index) => {
    const item = element("li");
    if (stage.heading) item.append(element("div", "heading", stage.heading));
    const row = button("", "", () => (stop(path), show(path, index)));
    row.className = "row";
    row.removeAttribute("aria-label");
    row.dataset.focus = `stage ${stage.id}`;
    const title = element("span", "", stage.title);
    if (path.data.colours[stage.role]) title.style.setProperty("--role", path.data.colours[stage.role]);
    const strip = stage.strips.at(-1);
    row.append(title, strip ? drawn(path, strip) : element("span"), element("span", "", stage.note));
    const detail = element("div", "detail");
    const inner = element("div", "inner");
    inner.append(opened(path, stage, item));
    detail.append(inner);
    item.append(row, detail);
    return item;
  });
  list.append(...path.items);
  return list;
}

function opened(path, stage, item) {
  const made = element("div");
  made.append(element("p", "", stage.text));
  item.values = stage.strips.map((strip, i) => {
    const label = [strip.sign, strip.label].join(" ");
    const shown = line(label, drawn(path, strip), i, path.data.colours[strip.role]);
    made.append(shown);
    return shown.lastChild;
  });
  stage.answers.forEach(([label, share], i) => {
    const bar = element("span", "share");
    bar.style.width = `${100 * share}%`;
    const shown = line(label, bar, i + stage.strips.length);
    shown.lastChild.textContent = percent(share);
    made.append(shown);
  });
  item.readout = element("p", "readout");
  made.append(item.readout);
  return made;
}

function line(label, shown, i, colour) {
  const made = element("div", "line");
  made.style.setProperty("--i", i);
  const name = element("span", "", label);
  name.title = label;
  if (colour) name.style.setProperty("--role", colour);
  made.append(name, shown, element("span"));
  return made;
}

function drawn(path, strip) {
  const values = (strip.numbers ??= unpacked(strip.values));
  const made = element("span", "strip");
  const scale = strip.signed ? path.data.signed : path.data.weights;
  const canvas = ramped(values.length, (at) => {
    const share = strip.signed
      ? 0.5 + values[at] / (2 * strip.limit || 1)
      : Math.sqrt(clip(values[at] / (strip.limit || 1)));
    return Number.isFinite(values[at]) ? scale[Math.round(255 * clip(share))] : "#808080";
  });
  const mark = element("i", "mark");
  mark.hidden = true;
  made.append(canvas, mark);
  path.marks.push({mark, kind: strip.kind, length: values.length});
  made.style.borderLeftColor = path.data.colours[strip.role] ?? "transparent";
  made.onpointermove = (event) => {
    const box = canvas.getBoundingClientRect();
    point(
      path,
      strip.kind,
      clamp(Math.floor(((event.clientX - box.left) / box.width) * values.length), values.length),
      values.length,
    );
  };
  made.onpointerleave = () => point(path, strip.kind, null);
  return made;
}

// What is under the pointer, marked wherever the same number is drawn.

function point(path, kind, index, length = path.data.scene.names.length) {
  path.pointed = index === null ? null : {kind, index, length};
  for (const one of path.marks) {
    one.mark.hidden = index === null || one.kind !== kind || one.length !== length;
    if (!one.mark.hidden) one.mark.style.left = `${(100 * (index + 0.5)) / length}%`;
  }
  if (path.picture) paint(path);
  say(path);
}

function say(path) {
  const {pointed, index} = path;
  const stage = path.data.stages[index];
  const item = path.items[index];
  for (const value of item.values) value.textContent = "";
  item.readout.textContent = pointed ? readout(path, item, stage, pointed) : range(stage);
  const token = pointed?.kind === "token" ? pointed.index : path.data.token;
  const parts = Object.entries(path.maps).map(([name, map]) => `${name.slice(0, -1)} ${shown(name, map[token])}`);
  path.said.textContent = `${path.data.scene.names[token]}: ${parts.join(", ") || "the token that is followed"}`;
}

function shown(name, value) {
  if (!Number.isFinite(value)) return "masked";
  return name === "weights" ? percent(value) : number(value);
}

function readout(path, item, stage, {kind, index, length}) {
  let found = false;
  stage.strips.forEach((strip, i) => {
    const here = strip.kind === kind && strip.numbers.length === length;
    item.values[i].textContent = here ? exact(strip, strip.numbers[index]) : "";
    found ||= here;
  });
  if (!found) return range(stage);
  return kind === "token" ? path.data.scene.names[index] : `Number ${index + 1} of ${length}`;
}

function exact(strip, value) {
  if (!Number.isFinite(value)) return "masked";
  return strip.signed ? number(value) : percent(value);
}

function range(stage) {
  const limits = [...new Set(stage.strips.filter((strip) => strip.signed).map((strip) => number(strip.limit)))];
  return limits.length
    ? `Colours: blue negative, red or orange positive, to ±${limits.join(" or ±")}. Point at or tap a strip for its numbers.`
    : "";
}

function show(path, index, told = true) {
  const last = path.data.stages.length - 1;
  path.index = clip(index, last);
  const stage = path.data.stages[path.index];
  path.stage = stage.id;
  path.range.value = path.index;
  path.range.ariaValueText = stage.title;
  path.title.textContent = stage.title;
  path.back.disabled = path.index === 0;
  path.on.disabled = path.index === last;
  path.items.forEach((item, at) => {
    item.className = at > path.index ? "future" : "past";
    if (at === path.index) item.className = "current";
    const row = item.querySelector(".row");
    if (at === path.index) row.setAttribute("aria-current", "step");
    else row.removeAttribute("aria-current");
  });
  const headings = path.data.stages.slice(0, path.index + 1).filter((one) => one.heading).length;
  path.dot.style.top = `calc(${path.index} * var(--row) + ${headings} * 1.4rem + 4px)`;
  paint(path);
  say(path);
  if (told) report(path);
}

function report(path) {
  clearTimeout(path.rest);
  path.rest = setTimeout(() => path.tell("stage", (path.reported = path.stage)), REST);
}

// Small things.

function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return [...new Float32Array(bytes.buffer)];
}

function ramped(count, colour) {
  const canvas = Object.assign(element("canvas"), {width: count, height: 1});
  const context = canvas.getContext("2d");
  for (let at = 0; at < count; at++) {
    context.fillStyle = colour(at);
    context.fillRect(at, 0, 1, 1);
  }
  return canvas;
}

function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

function button(text, label, press) {
  const made = element("button", "", text);
  Object.assign(made, {type: "button", ariaLabel: label, onclick: press});
  return made;
}

const clamp = (value, count) => Math.min(count - 1, Math.max(0, value));
const clip = (value, most = 1) => Math.min(most, Math.max(0, value));
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const number = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
