/** What a sample is made of: reals where the network has a scale (floats), else levels (integers). */
export type Numbers =
  | Float32Array | Float64Array
  | Int8Array | Uint8Array | Uint8ClampedArray | Int16Array | Uint16Array | Int32Array | Uint32Array;
/** Integers of the network, in its own types; sums of a mean read-out have 64 bits. */
export type Levels = @levels@;
/** Spikes of a layer of neurons at a step of the call. */
export interface Sent {
  readonly layer: Layer;
  readonly step: number;
  readonly levels: Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array;
}
export interface Layer {
  readonly name: string;
  readonly shape: readonly number[];
  readonly low: number;
  readonly high: number;
  readonly steps: number;
}
/** Of a value: its range, its unit 2^-exponent, the steps of a window. */
export interface Value {
  readonly shape: readonly number[];
  readonly size: number;
  readonly type: string;
  readonly low: number;
  readonly high: number;
  readonly exponent: number;
  readonly steps: number;
}
/** Of what comes out: behind a mean read-out it is one row. */
export type Output = Value & { readonly mean: boolean; readonly rows: number };
/** What a call gives. */
export type Results = @results@;
export class Result {
  readonly levels: Levels;
  readonly shape: readonly number[];
  /** What levels are to be divided by for a mean. */
  readonly steps: number;
  readonly exponent: number;
  /** Operation → numbers that were clamped; of a stream, so far. */
  readonly clamped: Readonly<Record<string, number>>;
  /** levels / steps · 2^-exponent. */
  readonly values: Float64Array;
  top(k?: number): [name: string, value: number][];
}
export class Stream {
  /** One step of the input, of a repeated one as well. */
  step(x: Numbers, observe?: (sent: Sent) => void): Results;
  reset(): void;
  close(): void;
}
export class Network {
  readonly name: string;
  @facts@
  readonly input: Value & { readonly repeat: boolean; readonly scale: readonly [number, number] | null };
  readonly layers: readonly Layer[];
  run(x: Numbers, observe?: (sent: Sent) => void): Results;
  stream(): Stream;
}
/** Left out: @file@ beside the module. */
export function load(
  source?: string | URL | Response | ArrayBuffer | ArrayBufferView | WebAssembly.Module | Promise<Response>,
): Promise<Network>;
