// Ctrl-C and a service manager's stop: the loop ends after the frame at hand, and what it writes is whole.
#pragma once

namespace board {

// From now on SIGINT and SIGTERM only make stop_asked() true, a second one ends the program as ever; SIGPIPE does
// nothing.
void catch_stop();
bool stop_asked();

}  // namespace board
