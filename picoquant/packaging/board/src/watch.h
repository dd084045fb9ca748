// A stop watch.
#pragma once

#include <chrono>

namespace board {

class Watch {
 public:
  // Milliseconds since the last call, or since it was made.
  double lap() {
    const Clock::time_point now = Clock::now();
    const double passed = std::chrono::duration<double, std::milli>(now - from_).count();
    from_ = now;
    return passed;
  }

  // The same without beginning anew.
  double so_far() const { return std::chrono::duration<double, std::milli>(Clock::now() - from_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point from_ = Clock::now();
};

}  // namespace board
