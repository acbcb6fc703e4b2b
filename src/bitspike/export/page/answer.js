// The prediction: the class with the most, and a bar for each.

class Answer {
  constructor(network) {
    this.low = 0;
    this.high = 0;
    this.list = document.getElementById("classes");
    this.winner = document.getElementById("winner");
    this.margin = document.getElementById("margin");
    this.names = Array.from({ length: network.output.size }, (_, i) => network.classes[i] ?? String(i));
    const longest = Math.max(...this.names.map((name) => name.length));
    this.list.style.setProperty("--names", `${Math.min(Math.max(1.2, 0.62 * longest), 8)}rem`);
    this.winner.classList.toggle("long", longest > 6);
    this.rows = this.names.map((name) => {
      const row = document.createElement("li");
      const parts = ["name", "track", "value"].map((kind) => {
        const part = document.createElement("span");
        part.className = kind;
        row.append(part);
        return part;
      });
      const [bar, origin] = ["bar", "origin"].map((kind) => {
        const part = document.createElement("span");
        part.className = kind;
        parts[1].append(part);
        return part;
      });
      parts[0].textContent = parts[0].title = name;
      this.list.append(row);
      return { row, bar, origin, value: parts[2] };
    });
  }

  /** Let the scale hold these values; it never shrinks, so that bars can be compared. */
  hold(values) {
    this.low = Math.min(this.low, ...values);
    this.high = Math.max(this.high, ...values);
  }

  show(result, blank) {
    const values = result.values;
    this.hold(values);
    const span = this.high - this.low || 1;
    const zero = -this.low / span;
    const [[name, most], next] = result.top(Math.min(2, values.length));
    const best = this.names.indexOf(name);
    this.rows.forEach(({ row, bar, origin, value }, i) => {
      row.classList.toggle("best", i === best && !blank);
      bar.style.transform = `translateX(${100 * zero}%) scaleX(${values[i] / span})`;
      origin.style.left = `${100 * zero}%`;
      value.textContent = values[i].toFixed(2).replace("-", "−");
      row.dataset.level = String(result.levels[i]);
    });
    this.list.dataset.steps = String(result.steps);
    this.list.dataset.best = String(best);
    this.winner.textContent = blank ? "–" : name;
    this.margin.textContent = blank ? "Draw something, as large as the pad." : next ? `${(most - next[1]).toFixed(2)} ahead of ${next[0]}` : "";
  }
}
