// A small pool of threads of the engine's own: workers that spin while a program runs and sleep between calls.

#pragma once

// Calls body(ctx, task, thread) once for every task in [0, tasks), from at most `threads` threads, thread < threads; the
// caller is thread 0. Serial where threads <= 1, tasks <= 1, or another caller has the pool. Returns when all are done.
// Which thread takes which task is not fixed: a result must not depend on it.
void pool_run(long tasks, int threads, void (*body)(void* ctx, long task, int thread), void* ctx);

// One caller at a time has the workers; who does not get them runs alone. They spin until the call that matches.
bool pool_take(int threads);
void pool_release();

constexpr int MAX_THREADS = 64;
