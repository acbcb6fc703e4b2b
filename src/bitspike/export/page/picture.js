// What is drawn: a grid finer than the pixels, since a pixel is the mean of the ink in it, as in scanned images.

const FINE = 4;

class Picture {
  constructor(side, top) {
    this.side = side;
    this.top = top;
    this.fine = side * FINE;
    this.cells = new Uint8Array(this.fine ** 2);
    this.past = [];
  }

  /** Levels 0 .. top of the pixels, row by row. */
  pixels() {
    const out = new Uint8Array(this.side ** 2);
    for (let row = 0; row < this.side; row += 1) {
      for (let column = 0; column < this.side; column += 1) {
        let sum = 0;
        for (let i = 0; i < FINE; i += 1) {
          const start = (row * FINE + i) * this.fine + column * FINE;
          for (let j = 0; j < FINE; j += 1) sum += this.cells[start + j];
        }
        out[row * this.side + column] = Math.round(sum / FINE ** 2);
      }
    }
    return out;
  }

  /** Take pixels as they are. */
  set(pixels) {
    this.cells.forEach((_, i) => {
      const row = Math.floor(i / this.fine / FINE);
      this.cells[i] = pixels[row * this.side + Math.floor((i % this.fine) / FINE)];
    });
  }

  get empty() {
    return !this.cells.some(Boolean);
  }

  remember() {
    this.past.push(this.cells.slice());
    if (this.past.length > 30) this.past.shift();
  }

  undo() {
    const before = this.past.pop();
    if (before) this.cells.set(before);
  }

  clear() {
    this.cells.fill(0);
  }

  /** A line from (x, y) to (x, y), in pixels, of that width and ink. */
  line([fromX, fromY], [toX, toY], width, ink) {
    const radius = Math.max(width / 2, 0.5 / FINE);
    const [dx, dy] = [toX - fromX, toY - fromY];
    const length = dx * dx + dy * dy;
    const ends = (a, b) => [Math.floor((Math.min(a, b) - radius) * FINE), Math.ceil((Math.max(a, b) + radius) * FINE)];
    const [left, right] = ends(fromX, toX);
    const [up, down] = ends(fromY, toY);
    for (let row = Math.max(up, 0); row < Math.min(down, this.fine); row += 1) {
      for (let column = Math.max(left, 0); column < Math.min(right, this.fine); column += 1) {
        const [x, y] = [(column + 0.5) / FINE, (row + 0.5) / FINE];
        const along = length ? Math.min(Math.max(((x - fromX) * dx + (y - fromY) * dy) / length, 0), 1) : 0;
        const away = (x - fromX - along * dx) ** 2 + (y - fromY - along * dy) ** 2;
        if (away <= radius * radius) this.cells[row * this.fine + column] = ink;
      }
    }
  }

  /** One whole pixel. */
  dot(row, column, ink) {
    for (let i = 0; i < FINE; i += 1) {
      const start = (row * FINE + i) * this.fine + column * FINE;
      this.cells.fill(ink, start, start + FINE);
    }
  }

  /** The area of one ink around a place, in pixels. */
  fill([x, y], ink) {
    const start = Math.floor(y * FINE) * this.fine + Math.floor(x * FINE);
    const old = this.cells[start];
    const todo = old === ink ? [] : [start];
    while (todo.length) {
      const place = todo.pop();
      if (this.cells[place] !== old) continue;
      this.cells[place] = ink;
      const column = place % this.fine;
      if (column > 0) todo.push(place - 1);
      if (column < this.fine - 1) todo.push(place + 1);
      if (place >= this.fine) todo.push(place - this.fine);
      if (place < this.cells.length - this.fine) todo.push(place + this.fine);
    }
  }
}
