// The drawing pad: pointers and keys change the picture, and whoever listens is told.

/** Of the pen, in pixels: the middle one as digits of these sizes are written, the others for details and garments. */
const WIDTHS = { 8: [0.8, 1.2, 2.2], 28: [1.5, 2.8, 7] };

class Pad {
  constructor(picture, changed, say) {
    Object.assign(this, { picture, changed, say });
    this.tool = "pen";
    this.ink = picture.top;
    this.widths = WIDTHS[picture.side];
    this.width = this.widths[1];
    this.place = [Math.floor(picture.side / 2), Math.floor(picture.side / 2)];
    this.fresh = false;
    this.box = document.getElementById("pad");
    this.paper = document.getElementById("paper");
    this.grid = document.getElementById("grid");
    this.paper.width = this.paper.height = picture.side;
    this.#listen();
    new ResizeObserver(() => this.#lines()).observe(this.box);
  }

  /** Show the picture as the network gets it. */
  paint() {
    paintPixels(this.paper, this.picture.pixels(), this.picture.top);
    this.#lines();
  }

  /** What is shown was put there by the page: the first stroke begins a new picture. */
  invite() {
    this.fresh = true;
  }

  wipe() {
    this.#begin();
    this.picture.clear();
    this.#end();
  }

  undo() {
    this.fresh = false;
    this.picture.undo();
    this.#end();
  }

  show(pixels) {
    this.#begin();
    this.picture.set(pixels);
    this.#end();
  }

  #begin() {
    this.picture.remember();
    if (this.fresh) this.picture.clear();
    this.fresh = false;
  }

  #end() {
    this.paint();
    this.changed();
  }

  #listen() {
    const last = new Map();
    const at = (event) => {
      const box = this.box.getBoundingClientRect();
      const scale = this.picture.side / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    this.box.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      event.preventDefault();
      this.box.focus({ preventScroll: true, focusVisible: false });
      this.box.setPointerCapture(event.pointerId);
      this.#begin();
      const place = at(event);
      if (this.tool === "fill") {
        this.picture.fill(place.map((x) => Math.min(Math.max(x, 0), this.picture.side - 0.01)), this.ink);
      } else {
        last.set(event.pointerId, place);
        this.#stroke(place, place);
      }
      this.#end();
    });
    this.box.addEventListener("pointermove", (event) => {
      if (!last.has(event.pointerId)) return;
      const points = event.getCoalescedEvents?.() ?? [];
      for (const point of points.length ? points : [event]) {
        const place = at(point);
        this.#stroke(last.get(event.pointerId), place);
        last.set(event.pointerId, place);
      }
      this.#end();
    });
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
      this.box.addEventListener(kind, (event) => last.delete(event.pointerId));
    }
    this.box.addEventListener("keydown", (event) => this.#key(event));
    for (const kind of ["focus", "blur"]) this.box.addEventListener(kind, () => this.#lines());
  }

  #stroke(from, to) {
    this.picture.line(from, to, this.width, this.tool === "eraser" ? 0 : this.ink);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey) {
      if (event.key !== "z") return;
      event.preventDefault();
      this.undo();
      return;
    }
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (event.altKey || !(move || [" ", "Enter", "Delete", "Backspace", "c", "C"].includes(event.key))) return;
    event.preventDefault();
    if (event.key === "c" || event.key === "C") {
      this.wipe();
      this.say("Cleared.");
      return;
    }
    const before = this.place;
    if (move) this.place = before.map((x, i) => Math.min(Math.max(x + move[i], 0), this.picture.side - 1));
    const wipes = event.key === "Delete" || event.key === "Backspace";
    if (!move || event.shiftKey) {
      this.#begin();
      const ink = wipes || this.tool === "eraser" ? 0 : this.ink;
      const [row, column] = this.place;
      if (this.tool === "fill" && !move && !wipes) this.picture.fill([column + 0.5, row + 0.5], ink);
      else {
        if (move && !event.repeat) this.picture.dot(...before, ink);
        this.picture.dot(row, column, ink);
      }
      this.#end();
    }
    this.#lines();
    const [row, column] = this.place;
    const ink = this.picture.pixels()[row * this.picture.side + column];
    this.say(`Row ${row + 1}, column ${column + 1}, ink ${ink} of ${this.picture.top}.`);
  }

  /** Lines between pixels, and the place of the keys. */
  #lines() {
    const size = Math.round(this.box.clientWidth * devicePixelRatio);
    if (!size) return;
    if (this.grid.width !== size) this.grid.width = this.grid.height = size;
    const pen = this.grid.getContext("2d");
    const unit = size / this.picture.side;
    pen.clearRect(0, 0, size, size);
    pen.fillStyle = getComputedStyle(this.box).getPropertyValue("--pad-line");
    for (let i = 1; i < this.picture.side; i += 1) {
      pen.fillRect(Math.round(i * unit), 0, 1, size);
      pen.fillRect(0, Math.round(i * unit), size, 1);
    }
    if (document.activeElement === this.box && this.box.matches(":focus-visible")) {
      const [row, column] = this.place;
      const edge = Math.max(2, Math.round(unit / 10));
      for (const [color, inset, wide] of [["#000", 0, edge + 2], ["#ffd24d", 1, edge]]) {
        pen.strokeStyle = color;
        pen.lineWidth = wide;
        const start = inset + edge / 2;
        pen.strokeRect(column * unit + start, row * unit + start, unit - 2 * start, unit - 2 * start);
      }
    }
  }
}

/** Gray levels 0 .. top onto a canvas of their size. */
function paintPixels(canvas, pixels, top) {
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(canvas.width, canvas.height);
  pixels.forEach((level, i) => {
    const gray = level ? Math.round(24 + 231 * (level / top)) : 0; // the least ink is lighter than the pad
    image.data.set([gray, gray, gray, level ? 255 : 0], 4 * i);
  });
  pen.putImageData(image, 0, 0);
}
