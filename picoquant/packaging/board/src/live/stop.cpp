#include "live/stop.h"

#include <csignal>

namespace board {

namespace {

volatile std::sig_atomic_t g_asked = 0;

void note(int) { g_asked = 1; }

}  // namespace

void catch_stop() {
  struct sigaction action;
  sigemptyset(&action.sa_mask);
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  action.sa_handler = note;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a reader that leaves is an error of writing
}

bool stop_asked() { return g_asked != 0; }

}  // namespace board
