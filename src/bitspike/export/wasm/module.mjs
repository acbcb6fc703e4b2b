// An integer network in WebAssembly, made by bitspike: the same integers as its program, bit for bit.
// const net = await load(); const { levels, steps } = net.run(x); const live = net.stream(); live.step(x);
// Where outputs have names: const { map, kind } = net.run(x), each with levels and steps.

const NETWORK = /* what the program says of itself */ null;

const ARRAYS = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
};
const OUTPUTS = NETWORK.outputs ?? [{ ...NETWORK.output, classes: NETWORK.classes, most: NETWORK.output.rows }];
const LEVELS = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array];
const REALS = [Float32Array, Float64Array];

/** What comes out: integers, and how to read them. */
class Result {
  #classes;

  constructor(levels, shape, steps, clamped, output) {
    this.levels = levels;
    this.shape = shape;
    this.steps = steps;
    this.exponent = output.exponent;
    this.clamped = clamped;
    this.#classes = output.classes;
  }

  /** levels / steps · 2^-exponent as floating point numbers: for people, no part of the meaning. */
  get values() {
    const unit = 2 ** -this.exponent;
    return Float64Array.from(this.levels, (level) => (Number(level) / this.steps) * unit);
  }

  /** The k classes with the most, as [name, value]; the lower number first in a tie. */
  top(k = 1) {
    if (this.shape.length !== 1) throw new RangeError("top: the network must have a mean read-out, got rows of steps; read levels");
    const size = this.levels.length;
    if (!Number.isInteger(k) || k < 1 || k > size) {
      throw new RangeError(`top: k must be an integer from 1 to ${size}, got ${k}; change it`);
    }
    const { levels, values } = this;
    const order = Array.from(levels.keys()).sort((a, b) => (levels[b] > levels[a]) - (levels[b] < levels[a]) || a - b);
    return order.slice(0, k).map((i) => [this.#classes[i] ?? String(i), values[i]]);
  }
}

/** A live input: state that goes on from step to step. */
class Stream {
  #machine;
  #context;

  constructor(machine) {
    this.#machine = machine;
    this.#context = machine.context();
  }

  /** Feed one step; returns what comes out for it: behind a mean read-out the sum so far, else the rows of it. */
  step(x, observe) {
    return this.#machine.feed(this.#alive(), x, 1, "step", observe);
  }

  /** Start afresh, as with a new sample. */
  reset() {
    this.#machine.reset(this.#alive());
  }

  /** Give its memory back to the network; the stream is of no more use. */
  close() {
    if (this.#context) this.#machine.free(this.#context);
    this.#context = 0;
  }

  #alive() {
    if (!this.#context) throw new Error("stream: it must be open, got a closed one; make another");
    return this.#context;
  }
}

/** A network: its facts, and what runs it. */
class Network {
  #machine;

  constructor(machine) {
    this.#machine = machine;
    const { name, classes, input, output, outputs, layers, order } = NETWORK;
    const facts = outputs ? { outputs } : { classes, output };
    Object.assign(this, { name, input, ...facts, layers: order.map((place) => layers[place]) });
  }

  /** A sample from a fresh state: one step where the input is repeated, else all its steps one after the other. */
  run(x, observe) {
    const context = this.#machine.context();
    try {
      return this.#machine.feed(context, x, NETWORK.input.repeat ? 1 : NETWORK.input.steps, "run", observe);
    } finally {
      this.#machine.free(context);
    }
  }

  stream() {
    return new Stream(this.#machine);
  }
}

/** Memory and calls of one instance. */
class Machine {
  #free = [];
  #seen = [];

  constructor(instance) {
    this.calls = instance.exports;
    this.memory = this.calls.memory;
    this.end = this.calls.__heap_base.value;
    const { input, outputs } = NETWORK;
    const numbers = input.size * (input.repeat ? 1 : input.steps);
    this.real = this.#room(4 * numbers);
    this.input = this.#room(ARRAYS[input.type].BYTES_PER_ELEMENT * numbers);
    this.places = OUTPUTS.map(({ type, size, rows, most }) =>
      this.#room(ARRAYS[type].BYTES_PER_ELEMENT * size * Math.max(rows, most)),
    );
    this.output = outputs ? this.#room(8 * outputs.length) : this.places[0]; // addresses, then rows of each
  }

  context() {
    const context = this.#free.pop() ?? this.#room(this.calls.context_bytes());
    this.reset(context);
    return context;
  }

  free(context) {
    this.#free.push(context);
  }

  reset(context) {
    this.calls.reset(context);
  }

  /** Feed one step, or a whole sample, of the context. */
  feed(context, x, steps, call, observe) {
    this.#take(x, steps, call);
    this.#seen = [];
    this.calls.watch(observe ? 1 : 0);
    if (NETWORK.outputs) new Uint32Array(this.memory.buffer, this.output, this.places.length).set(this.places);
    const outcome = this.calls[call](context, this.input, this.output);
    if (outcome < 0) throw new RangeError("step: a stream must have at most 2^31 - 1 steps, got more; reset it");
    const rows = NETWORK.outputs
      ? new Int32Array(this.memory.buffer, this.output + 4 * this.places.length, this.places.length).slice()
      : [outcome];
    const clamped = this.#clamped(context);
    const results = OUTPUTS.map((output, place) => this.#result(context, output, place, rows[place], clamped));
    const watched = this.#seen;
    if (observe) for (const seen of watched) observe(seen);
    return NETWORK.outputs ? Object.fromEntries(results.map((result, place) => [OUTPUTS[place].name, result])) : results[0];
  }

  /** So many rows of an output. */
  #result(context, output, place, rows, clamped) {
    const count = (output.mean ? 1 : rows) * output.size;
    const levels = new ARRAYS[output.type](this.memory.buffer, this.places[place], count).slice();
    const shape = output.mean ? [...output.shape] : [rows, ...output.shape];
    return new Result(levels, shape, output.mean ? this.calls.steps(context, place) : 1, clamped, output);
  }

  /** What neurons sent, as they send it; told when the call is over, so that whoever listens may call again. */
  sent(index, place, count, bytes, signed) {
    const kind = ARRAYS[`${signed ? "" : "u"}int${8 * bytes}`];
    const layer = NETWORK.layers[index];
    const step = this.#seen.filter((other) => other.layer === layer).length;
    this.#seen.push({ layer, step, levels: new kind(this.memory.buffer, place, count).slice() });
  }

  #take(x, steps, call) {
    const { input } = NETWORK;
    const numbers = input.size * steps;
    const real = REALS.some((kind) => x instanceof kind);
    if (!real && !LEVELS.some((kind) => x instanceof kind)) {
      const got = x?.constructor?.name ?? typeof x;
      const must = "the input must be a typed array, of floats for reals, of integers for levels";
      throw new TypeError(`${call}: ${must}, got ${got}; convert it`);
    }
    if (x.length !== numbers) {
      const must = `${steps} × ${input.shape.join("×")} = ${numbers} numbers`;
      throw new RangeError(`${call}: the input must have ${must}, got ${x.length}; reshape it`);
    }
    const buffer = this.memory.buffer;
    if (real) {
      if (!input.scale) {
        throw new TypeError(`${call}: the input must be integers ${input.low}..${input.high}, got reals; convert it`);
      }
      const given = new Float32Array(buffer, this.real, numbers);
      given.set(x);
      const bytes = ARRAYS[input.type].BYTES_PER_ELEMENT;
      for (let done = 0; done < numbers; done += input.size) {
        if (this.calls.quantize(this.real + 4 * done, this.input + bytes * done)) {
          throw new RangeError(`${call}: the input must be finite, got NaN or infinity; look for them in the data`);
        }
      }
      return;
    }
    for (const level of x) {
      if (level < input.low || level > input.high) {
        throw new RangeError(`${call}: the input must lie in ${input.low}..${input.high}, got ${level}; quantize it`);
      }
    }
    new ARRAYS[input.type](buffer, this.input, numbers).set(x);
  }

  #clamped(context) {
    const found = {};
    NETWORK.clamps.forEach((name, place) => {
      const count = this.calls.clamped(context, place);
      if (count) found[name] = count;
    });
    return found;
  }

  /** So many bytes that stay, behind all that was taken before. */
  #room(bytes) {
    const start = Math.ceil(this.end / 16) * 16;
    const lacking = start + bytes - this.memory.buffer.byteLength;
    if (lacking > 0) this.memory.grow(Math.ceil(lacking / 65536));
    this.end = start + bytes;
    return start;
  }
}

/** Bytes, a compiled module, a response, or where the file lies; left out: NAME.wasm beside this file. */
async function load(source = new URL(NETWORK.file, import.meta.url)) {
  let machine = null;
  const host = { observe: (...sent) => machine.sent(...sent) };
  const module = source instanceof WebAssembly.Module ? source : await WebAssembly.compile(await bytesOf(await source));
  const instance = await WebAssembly.instantiate(module, { host });
  if (instance.exports.fingerprint?.() >>> 0 !== NETWORK.fingerprint) {
    throw new Error(`load: the file must be the ${NETWORK.file} written with this module, got another; export both again`);
  }
  machine = new Machine(instance);
  return new Network(machine);
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  if (source?.arrayBuffer) return fetched(source);
  const address = source instanceof URL ? source.href : String(source);
  const here = globalThis.process?.versions?.node && (address.startsWith("file:") || !/^[a-z][a-z+.-]+:/i.test(address));
  if (!here) return fetched(await fetch(source));
  const files = "node:fs/promises";
  const place = address.startsWith("file:") ? new URL(address) : address;
  return (await import(/* @vite-ignore */ /* webpackIgnore: true */ files)).readFile(place);
}

async function fetched(response) {
  const { ok, status, url } = response;
  if (!ok) throw new Error(`load: the file must be there, got ${status} for ${url}; check the address`);
  return response.arrayBuffer();
}

export { load, Network, Stream, Result };
