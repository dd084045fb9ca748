// Boxes, class names and scores in an image.
#pragma once

#include <string>
#include <vector>

#include "decode.h"
#include "image.h"

namespace board {

struct Colour {
  uint8_t red, green, blue;
};

// Of a class: the hue goes on by the golden angle from each to the next, as in `picoquant predict`.
Colour colour_of(int label);

// Draws the detections that score at least `least`, the surest on top, and `note` into the upper left corner.
// A class whose name has letters beyond ASCII is shown by its number.
void draw(const std::vector<Detection>& found, const std::vector<std::string>& labels, float least,
          const std::string& note, Image* image);

// How wide a text is, and how high all are, in pixels at scale 1.
int text_width(const std::string& text);
extern const int kTextHeight;

// Writes a text of ASCII letters, small ones as capitals, its upper left corner at x, y.
void write_text(const std::string& text, int x, int y, int scale, Colour colour, Image* image);

}  // namespace board
