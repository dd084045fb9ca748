// Live: every picture of a source, one after the other, however long it goes on.
#pragma once

#include "options.h"

namespace board {

// One line of JSON a frame on stdout, a last one with the frame rate and the mean time of each step; drawn frames
// where --draw says. Returns 2 when a frame could not be read, else 0. Throws BadInput.
int run_loop(const Options& options);

}  // namespace board
