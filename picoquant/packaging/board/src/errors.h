// What went wrong, by whose doing: decides the program's exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace board {

// A file or an option that cannot be used; exit code 2.
struct BadInput : std::runtime_error {
  explicit BadInput(const std::string& what) : std::runtime_error(what) {}
};

}  // namespace board
