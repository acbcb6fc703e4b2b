// Ties the parts together: what is drawn goes through the network, and what comes out is shown.

const unpacked = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const element = (id) => document.getElementById(id);

const network = await load(unpacked(PAGE.wasm));
const levelsOf = Int32Array.from(PAGE.levels);
const answer = new Answer(network);
const raster = new Raster(network);
const picture = new Picture(PAGE.side, PAGE.top);
const examples = PAGE.examples.map(({ name, pixels }) => ({ name, pixels: unpacked(pixels) }));

let spoken = 0;
function say(text) {
  clearTimeout(spoken);
  element("said").textContent = text;
  spoken = setTimeout(() => {
    if (!picture.empty) element("said").textContent = `${text} Prediction: ${element("winner").textContent}.`.trim();
  }, 700);
}

/** Pixels as the network takes them: a table made from its data's own normalisation. */
const fed = (pixels) => Int32Array.from(pixels, (pixel) => levelsOf[pixel]);

let waiting = false;
let resting = 0;
function changed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    infer();
  });
}

function infer() {
  const x = fed(picture.pixels());
  const seen = [];
  const start = performance.now();
  const result = network.run(x, (sent) => seen.push(sent));
  const taken = performance.now() - start;
  answer.show(result, picture.empty);
  raster.show(seen);
  element("classes").dataset.input = x.join(" ");
  element("classes").dataset.clamped = JSON.stringify(result.clamped);
  clearTimeout(resting);
  resting = setTimeout(() => time(x, taken), 250);
}

/** Clocks of browsers are coarse: the last input again, until 20 ms have passed. */
function time(x, taken) {
  const limit = taken > 50 ? 1 : 2000;
  const start = performance.now();
  let runs = 0;
  let spent = 0;
  do {
    network.run(x);
    runs += 1;
    spent = performance.now() - start;
  } while (spent < 20 && runs < limit);
  const each = spent / runs;
  const text = each < 1 ? `${Number((1000 * each).toPrecision(2))} µs` : `${Number(each.toPrecision(2))} ms`;
  element("latency").textContent = runs > 1 ? `${text} (mean of ${runs}).` : `${text}.`;
}

function figure(name, value, more) {
  const row = document.createElement("div");
  const [term, data] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  const small = document.createElement("small");
  small.textContent = more;
  data.append(value, small);
  row.append(term, data);
  element("figures").append(row);
}

for (const [name, value, more] of PAGE.figures) figure(name, value, more);
for (const cells of PAGE.layers) {
  const row = document.createElement("tr");
  cells.forEach((text, i) => {
    const cell = document.createElement(i ? "td" : "th");
    if (!i) cell.scope = "row";
    cell.textContent = text;
    row.append(cell);
  });
  element("layers").tBodies[0].append(row);
}

const pad = new Pad(picture, changed, say);
for (const kind of ["tool", "width"]) {
  const buttons = document.querySelectorAll(`[data-${kind}]`);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      if (kind === "tool") pad.tool = button.dataset.tool;
      else pad.width = pad.widths[Number(button.dataset.width)];
    });
  }
}
element("ink").addEventListener("input", (event) => {
  pad.ink = Number(event.target.value);
});
element("undo").addEventListener("click", () => pad.undo());
element("clear").addEventListener("click", () => {
  pad.wipe();
  say("Cleared.");
});
for (const { name, pixels } of examples) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", `Example: ${name}`);
  button.title = name;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = PAGE.side;
  paintPixels(canvas, pixels, PAGE.top);
  button.append(canvas);
  button.addEventListener("click", () => {
    pad.show(pixels);
    say(`Example: ${name}.`);
  });
  element("examples").append(button);
  answer.hold(network.run(fed(pixels)).values);
}
if (examples.length) {
  picture.set(examples[PAGE.first].pixels);
  pad.invite();
}
pad.paint();
infer();
document.documentElement.dataset.ready = "yes";
