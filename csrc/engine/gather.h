// Event-driven convolutions and linear maps (FORM_GATHER): what the engine's other files call.

#pragma once

#include "program.h"

struct Sample;
struct Tile;

// Packs weights; false where this form does not hold the operation.
bool prepare_gather(const Program& p, Op& op);

// Lists the events of a row of the operand, by number.
void gather_row(const Sample& s, const Op& op, int64_t step, int64_t row);

void run_gather(const Sample& s, const Op& op, const Tile& tile, int32_t* out);
