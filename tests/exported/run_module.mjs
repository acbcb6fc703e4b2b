// Runs exported modules: node run_module.mjs JOBS.json; a job is {module, samples, reals}, what came out goes to the output.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const one = ({ levels, shape, steps, clamped }) => ({ levels: Array.from(levels, String), shape, steps, clamped });
const each = (found, what) => Object.fromEntries(Object.entries(found).map(([name, result]) => [name, what(result)]));

const values_of = (result) => Array.from(result.values);

async function ran({ module, samples, real, streamed }) {
  const { load } = await import(pathToFileURL(module));
  const net = await load();
  const said = (found) => (net.outputs ? each(found, one) : one(found));
  const values = (found) => (net.outputs ? each(found, values_of) : values_of(found));
  const live = net.stream();
  const kind = real ? Float32Array : Int32Array;
  const whole = [];
  const sent = [];
  for (const sample of samples) {
    const seen = [];
    whole.push(said(net.run(kind.from(sample), ({ layer, step, levels }) => seen.push([layer.name, step, Array.from(levels)]))));
    sent.push(seen);
  }
  const steps = [];
  for (const sample of streamed) {
    live.reset();
    const size = net.input.size;
    const rows = [];
    for (let start = 0; start < sample.length; start += size) rows.push(said(live.step(kind.from(sample.slice(start, start + size)))));
    steps.push(rows);
  }
  live.close();
  return { whole, steps, sent, values: samples.map((sample) => values(net.run(kind.from(sample)))) };
}

const found = [];
for (const job of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  found.push(await ran(job).catch((error) => ({ error: String(error) })));
}
console.log(JSON.stringify(found));
