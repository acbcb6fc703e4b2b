// Runs exported modules: node run_module.mjs JOBS.json; a job is {module, samples, reals}, what came out goes to the output.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const said = ({ levels, shape, steps, clamped }) => ({ levels: Array.from(levels, String), shape, steps, clamped });

async function ran({ module, samples, real, streamed }) {
  const { load } = await import(pathToFileURL(module));
  const net = await load();
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
  return { whole, steps, sent, values: samples.map((sample) => Array.from(net.run(kind.from(sample)).values)) };
}

const found = [];
for (const job of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  found.push(await ran(job).catch((error) => ({ error: String(error) })));
}
console.log(JSON.stringify(found));
