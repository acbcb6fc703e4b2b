// Spikes of every layer at every step: a pixel a neuron, the channels side by side.

class Raster {
  constructor(network) {
    this.layers = network.layers;
    this.box = document.getElementById("raster");
    this.rows = new Map(
      this.layers.map((layer) => {
        const row = document.createElement("div");
        row.className = "layer";
        row.innerHTML = '<div class="about"><b></b><span></span></div><div class="steps" role="img"></div>';
        const [about, steps] = row.children;
        const size = document.createElement("small");
        size.textContent = layer.shape.join("×");
        about.firstChild.append(layer.name, size);
        this.box.append(row);
        return [layer.name, { row, said: about.lastChild, steps, tiles: tiled(layer.shape, layer.steps) }];
      }),
    );
    this.seen = [];
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show(this.seen));
    this.#legend();
  }

  /** Everything that neurons sent in a run: {layer, step, levels}. */
  show(seen) {
    this.seen = seen;
    const colors = palette();
    for (const layer of this.layers) {
      const { row, said, steps, tiles } = this.rows.get(layer.name);
      const sent = seen.filter((one) => one.layer.name === layer.name);
      while (steps.children.length < sent.length) steps.append(stepBox(steps.children.length));
      while (steps.children.length > sent.length) steps.lastChild.remove();
      sent.forEach(({ levels }, i) => drawTiles(steps.children[i].firstChild, tiles, levels, layer, colors));
      const fired = sent.map(({ levels }) => levels.reduce((count, level) => count + (level !== 0), 0));
      const all = fired.reduce((a, b) => a + b, 0);
      const size = sent.reduce((count, { levels }) => count + levels.length, 0);
      const share = size ? ((100 * all) / size).toFixed(1) : "0";
      said.textContent = `${all.toLocaleString("en")} spikes, ${share} %`;
      const parts = fired.map((count, i) => `step ${i + 1}: ${count}`).join(", ");
      steps.setAttribute("aria-label", `Spikes of ${layer.name}, ${layer.shape.join("×")} neurons, ${parts}.`);
      row.dataset.spikes = fired.join(" ");
    }
  }

  #legend() {
    const legend = document.getElementById("legend");
    const signed = this.layers.some(({ low }) => low < 0);
    const graded = this.layers.some(({ low, high }) => high > 1 || low < -1);
    const entries = [["--zero", "silent"], ["--plus", "spike"], ...(signed ? [["--minus", "negative spike"]] : [])];
    for (const [color, text] of entries) {
      const entry = document.createElement("span");
      const dot = document.createElement("i");
      dot.style.background = `var(${color})`;
      entry.append(dot, text);
      legend.append(entry);
    }
    const more = graded ? " Stronger colors are higher levels." : "";
    legend.append(`A pixel is a neuron, a tile a channel.${more}`);
  }
}

function stepBox(number) {
  const box = document.createElement("div");
  box.className = "step";
  const label = document.createElement("span");
  label.textContent = `step ${number + 1}`;
  box.append(document.createElement("canvas"), label);
  return box;
}

/** How the numbers of a layer lie in its picture: tiles of rows × columns, so many side by side; flat where steps are few. */
function tiled(shape, steps) {
  const wanted = Math.min(Math.max(9 / steps, 1.2), 9);
  const [count, rows, columns] = shape.length === 3 ? shape : shape.length === 2 ? [shape[0], 1, shape[1]] : [shape[0], 1, 1];
  const gap = rows * columns > 1 ? 1 : 0;
  let across = 1;
  let least = Infinity;
  for (let side = 1; side <= count; side += 1) {
    const ratio = (side * (columns + gap)) / (Math.ceil(count / side) * (rows + gap));
    const fit = Math.abs(Math.log(ratio / wanted)) + (count % side ? 0.8 : 0);
    if (fit < least) [across, least] = [side, fit];
  }
  const down = Math.ceil(count / across);
  return { rows, columns, gap, across, width: across * (columns + gap) - gap, height: down * (rows + gap) - gap };
}

function drawTiles(canvas, tiles, levels, layer, colors) {
  const { rows, columns, gap, across, width, height } = tiles;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const size = rows * columns;
  levels.forEach((level, i) => {
    const tile = Math.floor(i / size);
    const x = (tile % across) * (columns + gap) + (i % columns);
    const y = Math.floor(tile / across) * (rows + gap) + Math.floor((i % size) / columns);
    const most = level < 0 ? -layer.low : layer.high;
    const share = level ? 0.35 + 0.65 * Math.abs(level / most) : 0;
    const full = level < 0 ? colors.minus : colors.plus;
    const color = colors.zero.map((zero, k) => zero + (full[k] - zero) * share);
    image.data.set([...color, 255], 4 * (y * width + x));
  });
  pen.putImageData(image, 0, 0);
}

/** Colors of the style, as numbers. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const numbers = (name) => {
    const text = style.getPropertyValue(name).trim().slice(1);
    return [0, 2, 4].map((i) => parseInt(text.slice(i, i + 2), 16));
  };
  return { zero: numbers("--zero"), plus: numbers("--plus"), minus: numbers("--minus") };
}
