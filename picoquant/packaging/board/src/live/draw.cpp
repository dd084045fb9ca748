#include "live/draw.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace board {

namespace {

struct Box {
  int left, top, right, bottom;  // the last pixels belong to it
};

void fill(const Box& box, Colour colour, Image* image) {
  const int right = std::min(box.right, image->width - 1), bottom = std::min(box.bottom, image->height - 1);
  for (int y = std::max(box.top, 0); y <= bottom; ++y)
    for (int x = std::max(box.left, 0); x <= right; ++x) {
      uint8_t* to = &image->rgb[(static_cast<size_t>(y) * image->width + x) * 3];
      to[0] = colour.red;
      to[1] = colour.green;
      to[2] = colour.blue;
    }
}

// A side of a box as a pixel of the image; also of numbers that no int holds, and of none.
int within(float side, int length) {
  if (!(side > 0)) return 0;
  return side >= static_cast<float>(length - 1) ? length - 1 : static_cast<int>(std::lround(side));
}

void outline(const Box& box, int thick, Colour colour, Image* image) {
  fill({box.left, box.top, box.right, std::min(box.top + thick - 1, box.bottom)}, colour, image);
  fill({box.left, std::max(box.bottom - thick + 1, box.top), box.right, box.bottom}, colour, image);
  fill({box.left, box.top, std::min(box.left + thick - 1, box.right), box.bottom}, colour, image);
  fill({std::max(box.right - thick + 1, box.left), box.top, box.right, box.bottom}, colour, image);
}

// A text on a ground of its own, its lower left corner above x, y where there is room.
void sign(const std::string& text, int x, int y, int scale, Colour ground, Image* image) {
  const int wide = (text_width(text) + 2) * scale, high = (kTextHeight + 2) * scale;
  const int left = std::max(std::min(x, image->width - wide), 0), top = std::max(y - high, 0);
  fill({left, top, left + wide - 1, top + high - 1}, ground, image);
  const bool bright = 0.299 * ground.red + 0.587 * ground.green + 0.114 * ground.blue > 125;
  const uint8_t ink = bright ? 0 : 255;
  write_text(text, left + scale, top + scale, scale, Colour{ink, ink, ink}, image);
}

std::string named(const Detection& box, const std::vector<std::string>& labels) {
  const size_t label = static_cast<size_t>(box.label);
  std::string name = label < labels.size() ? labels[label] : "";
  const bool ascii = std::all_of(name.begin(), name.end(), [](char one) { return one >= ' ' && one <= '~'; });
  if (name.empty() || !ascii) name = std::to_string(box.label);
  char score[16];
  std::snprintf(score, sizeof score, " %.2f", box.score);
  return name + score;
}

}  // namespace

Colour colour_of(int label) {
  const double hue = std::fmod(label * 0.381966, 1.0) * 6, bright = 0.95, full = 0.85;
  const auto part = [&](double shift) {  // of HSV, as red, green and blue are thirds of the circle apart
    const double k = std::fmod(shift + hue, 6.0);
    const double value = bright - bright * full * std::max(0.0, std::min({k, 4 - k, 1.0}));
    return static_cast<uint8_t>(255 * value);
  };
  return Colour{part(5), part(3), part(1)};
}

void draw(const std::vector<Detection>& found, const std::vector<std::string>& labels, float least,
          const std::string& note, Image* image) {
  std::vector<Detection> shown;
  for (const Detection& box : found)
    if (box.score >= least) shown.push_back(box);
  std::stable_sort(shown.begin(), shown.end(),
                   [](const Detection& a, const Detection& b) { return a.score < b.score; });
  const int longer = std::max(image->width, image->height);
  const int thick = std::max(1, (longer + 200) / 400), scale = std::max(1, (longer + 200) / 400);
  std::vector<Box> boxes;
  for (const Detection& box : shown)
    boxes.push_back({within(box.x1, image->width), within(box.y1, image->height), within(box.x2, image->width),
                     within(box.y2, image->height)});
  for (size_t index = 0; index < shown.size(); ++index)
    outline(boxes[index], thick, colour_of(shown[index].label), image);
  for (size_t index = 0; index < shown.size(); ++index)
    sign(named(shown[index], labels), boxes[index].left, boxes[index].top, scale, colour_of(shown[index].label), image);
  if (!note.empty()) sign(note, 0, 0, scale, Colour{0, 0, 0}, image);
}

}  // namespace board
