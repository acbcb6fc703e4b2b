// Parallel loops on the OpenMP runtime that torch has loaded; Python hands its entry point over. A second pool beside
// torch's spinning workers would cost more than it gains.

#pragma once

// Calls body(ctx, block, next) once for every block in [0, blocks), from at most `threads` threads that take the next block
// when they are free. Serial where threads <= 1, blocks <= 1 or no runtime was handed over. Returns when all are done.
// The order of blocks and the thread that runs one are not fixed: a result must depend on neither. `next` is the block
// that the same thread runs next, or -1: for fetching ahead.
void parallel_blocks(long blocks, int threads, void (*body)(void* ctx, long block, long next), void* ctx);
