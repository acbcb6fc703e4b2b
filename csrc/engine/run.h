// Runs programs; see run.cpp.

#pragma once

#include "program.h"

enum Outcome { RAN = 0, OUT_OF_MEMORY = 1, TOO_MANY_STEPS = 2, NOT_FINITE = 3 };

// Memory that one thread of callers needs at a time: kept from call to call.
struct Workspace {
    unsigned char* memory = nullptr;
    int64_t bytes = 0;
};

struct Call {
    const void* x;        // numbers of the input's type; sample b, step t at x + (b·batch_stride + t·step_stride)
    bool real;            // x is float, and becomes levels of the input
    int64_t step_stride, batch_stride;  // in numbers
    int64_t steps;        // of the chunk, at most the program's
    bool held;            // all steps are the first
    int64_t batch;
    unsigned char* states;  // [batch][state_bytes]; null: a whole run, which begins afresh and leaves nothing
    int64_t* out;         // [batch], then of every output [steps at most][numbers], channels first; sums of a read-out
    int64_t* clamped;     // [reports], added to
    int threads;
    int64_t* profile;     // null, or [groups + 2] nanoseconds, added to; then samples run one after the other
};

// Runs one chunk for every sample; out_steps [outputs] says how many steps came out, or were summed.
int run_program(const Program& p, const Call& call, Workspace& space, int64_t* out_steps);

// The state before the first step.
void reset_state(const Program& p, unsigned char* state);

int64_t workspace_bytes(const Program& p, int64_t batch, int threads);
