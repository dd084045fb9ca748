// In place of Paddle Lite when the program is built without it, for a host.
#include "errors.h"
#include "network.h"

namespace board {

std::unique_ptr<Network> open_network(const Settings&, const NetworkOptions&) {
  throw BadInput(
      "this program was built without Paddle Lite (cmake -DPADDLE_LITE_DIR=…); only --outputs FILE works");
}

}  // namespace board
