// In place of a runtime when the program is built without one, for a host.
#include "errors.h"
#include "network.h"

namespace board {

std::unique_ptr<Network> open_network(const Settings&, const NetworkOptions&) {
  throw BadInput(
      "this program was built without Paddle Lite (cmake -DPADDLE_LITE_DIR=…) and without OpenVINO "
      "(-DUSE_OPENVINO=ON); only --outputs FILE works");
}

}  // namespace board
