// Letters of 5x7 dots, seven lines of five each, the leftmost dot in the highest bit.
#include <cctype>

#include "live/draw.h"

namespace board {

const int kTextHeight = 7;

namespace {

const int kWide = 5, kAdvance = 6;

struct Glyph {
  char letter;
  uint8_t lines[7];
};

const Glyph kGlyphs[] = {
    {'0', {14, 17, 19, 21, 25, 17, 14}}, {'1', {4, 12, 4, 4, 4, 4, 14}},      {'2', {14, 17, 1, 6, 8, 16, 31}},
    {'3', {31, 2, 4, 2, 1, 17, 14}},     {'4', {2, 6, 10, 18, 31, 2, 2}},     {'5', {31, 16, 30, 1, 1, 17, 14}},
    {'6', {6, 8, 16, 30, 17, 17, 14}},   {'7', {31, 1, 2, 4, 8, 8, 8}},       {'8', {14, 17, 17, 14, 17, 17, 14}},
    {'9', {14, 17, 17, 15, 1, 2, 12}},   {'A', {14, 17, 17, 31, 17, 17, 17}}, {'B', {30, 17, 17, 30, 17, 17, 30}},
    {'C', {14, 17, 16, 16, 16, 17, 14}}, {'D', {28, 18, 17, 17, 17, 18, 28}}, {'E', {31, 16, 16, 30, 16, 16, 31}},
    {'F', {31, 16, 16, 30, 16, 16, 16}}, {'G', {14, 17, 16, 23, 17, 17, 15}}, {'H', {17, 17, 17, 31, 17, 17, 17}},
    {'I', {14, 4, 4, 4, 4, 4, 14}},      {'J', {7, 2, 2, 2, 2, 18, 12}},      {'K', {17, 18, 20, 24, 20, 18, 17}},
    {'L', {16, 16, 16, 16, 16, 16, 31}}, {'M', {17, 27, 21, 21, 17, 17, 17}}, {'N', {17, 17, 25, 21, 19, 17, 17}},
    {'O', {14, 17, 17, 17, 17, 17, 14}}, {'P', {30, 17, 17, 30, 16, 16, 16}}, {'Q', {14, 17, 17, 17, 21, 18, 13}},
    {'R', {30, 17, 17, 30, 20, 18, 17}}, {'S', {15, 16, 16, 14, 1, 1, 30}},   {'T', {31, 4, 4, 4, 4, 4, 4}},
    {'U', {17, 17, 17, 17, 17, 17, 14}}, {'V', {17, 17, 17, 17, 17, 10, 4}},  {'W', {17, 17, 17, 21, 21, 21, 10}},
    {'X', {17, 17, 10, 4, 10, 17, 17}},  {'Y', {17, 17, 17, 10, 4, 4, 4}},    {'Z', {31, 1, 2, 4, 8, 16, 31}},
    {'.', {0, 0, 0, 0, 0, 12, 12}},      {',', {0, 0, 0, 0, 12, 4, 8}},       {':', {0, 12, 12, 0, 12, 12, 0}},
    {'-', {0, 0, 0, 31, 0, 0, 0}},       {'_', {0, 0, 0, 0, 0, 0, 31}},       {'+', {0, 4, 4, 31, 4, 4, 0}},
    {'/', {0, 1, 2, 4, 8, 16, 0}},       {'(', {2, 4, 8, 8, 8, 4, 2}},        {')', {8, 4, 2, 2, 2, 4, 8}},
    {'%', {24, 25, 2, 4, 8, 19, 3}},     {'&', {12, 18, 20, 8, 21, 18, 13}},  {'#', {10, 10, 31, 10, 31, 10, 10}},
    {'\'', {12, 4, 8, 0, 0, 0, 0}},      {'"', {10, 10, 10, 0, 0, 0, 0}},     {' ', {0, 0, 0, 0, 0, 0, 0}}};
const uint8_t kOther[7] = {31, 17, 17, 17, 17, 17, 31};

const uint8_t* lines_of(char letter) {
  const char shown = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  for (const Glyph& glyph : kGlyphs)
    if (glyph.letter == shown) return glyph.lines;
  return kOther;
}

}  // namespace

int text_width(const std::string& text) { return text.empty() ? 0 : kAdvance * static_cast<int>(text.size()) - 1; }

void write_text(const std::string& text, int x, int y, int scale, Colour colour, Image* image) {
  for (const char letter : text) {
    const uint8_t* lines = lines_of(letter);
    for (int row = 0; row < kTextHeight * scale; ++row)
      for (int column = 0; column < kWide * scale; ++column) {
        const int at_x = x + column, at_y = y + row;
        if (!(lines[row / scale] >> (kWide - 1 - column / scale) & 1)) continue;
        if (at_x < 0 || at_y < 0 || at_x >= image->width || at_y >= image->height) continue;
        uint8_t* to = &image->rgb[(static_cast<size_t>(at_y) * image->width + at_x) * 3];
        to[0] = colour.red;
        to[1] = colour.green;
        to[2] = colour.blue;
      }
    x += kAdvance * scale;
  }
}

}  // namespace board
