#include "json.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "errors.h"

namespace board {

namespace {
const int kDeepest = 64;
}

class JsonReader {
 public:
  JsonReader(const std::string& text, const std::string& where) : text_(text), where_(where) {}

  Json all() {
    Json value = next(where_, 0);
    skip();
    if (at_ != text_.size()) fail("something follows the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    std::ostringstream message;
    message << where_ << ": no JSON at byte " << at_ << ": " << what;
    throw BadInput(message.str());
  }

  void skip() {
    while (at_ < text_.size() && std::string(" \t\r\n").find(text_[at_]) != std::string::npos) ++at_;
  }

  bool take(const std::string& token) {
    if (text_.compare(at_, token.size(), token) != 0) return false;
    at_ += token.size();
    return true;
  }

  Json next(const std::string& where, int depth) {
    if (depth > kDeepest) fail("nested too deep");
    skip();
    Json value;
    value.where_ = where;
    if (at_ == text_.size()) fail("it ends early");
    const char first = text_[at_];
    if (first == '{') {
      object(&value, depth);
    } else if (first == '[') {
      list(&value, depth);
    } else if (first == '"') {
      value.kind_ = Json::Kind::kText;
      value.text_ = string();
    } else if (take("true")) {
      value.kind_ = Json::Kind::kTruth;
      value.truth_ = true;
    } else if (take("false")) {
      value.kind_ = Json::Kind::kTruth;
    } else if (!take("null")) {
      value.kind_ = Json::Kind::kNumber;
      value.number_ = number();
    }
    return value;
  }

  void object(Json* value, int depth) {
    value->kind_ = Json::Kind::kObject;
    ++at_;
    skip();
    if (take("}")) return;
    do {
      skip();
      if (at_ == text_.size() || text_[at_] != '"') fail("a key is missing");
      const std::string key = string();
      skip();
      if (!take(":")) fail("a ':' is missing");
      value->members_[key] = next(value->where_ + ": " + key, depth + 1);
      skip();
    } while (take(","));
    if (!take("}")) fail("a '}' is missing");
  }

  void list(Json* value, int depth) {
    value->kind_ = Json::Kind::kList;
    ++at_;
    skip();
    if (take("]")) return;
    do {
      value->items_.push_back(next(value->where_, depth + 1));
      skip();
    } while (take(","));
    if (!take("]")) fail("a ']' is missing");
  }

  double number() {
    const std::string part = text_.substr(at_, text_.find_first_not_of("+-.0123456789eE", at_) - at_);
    char* end = nullptr;
    const double value = std::strtod(part.c_str(), &end);
    if (part.empty() || *end != '\0') fail("no value");
    at_ += part.size();
    return value;
  }

  std::string string() {
    std::string result;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        result += text_[at_];
        continue;
      }
      if (++at_ == text_.size()) break;
      const std::string escapes = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
      const size_t which = escapes.find(text_[at_]);
      if (which != std::string::npos) {
        result += meant[which];
      } else if (text_[at_] == 'u') {
        append_utf8(code_point(), &result);
      } else {
        fail("an unknown escape");
      }
    }
    if (at_ >= text_.size()) fail("a '\"' is missing");
    ++at_;
    return result;
  }

  // The character behind "\u"; stays on its last digit. Two surrogates are one character.
  unsigned code_point() {
    unsigned code = four_digits();
    if (code >= 0xD800 && code < 0xDC00 && text_.compare(at_ + 1, 2, "\\u") == 0) {
      at_ += 2;
      code = 0x10000 + ((code - 0xD800) << 10) + (four_digits() - 0xDC00);
    }
    return code;
  }

  unsigned four_digits() {
    const std::string digits = text_.substr(at_ + 1, 4);
    if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
      fail("four hexadecimal digits are missing");
    at_ += 4;
    return static_cast<unsigned>(std::strtoul(digits.c_str(), nullptr, 16));
  }

  static void append_utf8(unsigned code, std::string* out) {
    if (code < 0x80) {
      *out += static_cast<char>(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    const unsigned marks[] = {0, 0xC0, 0xE0, 0xF0};
    *out += static_cast<char>(marks[more] | (code >> (6 * more)));
    for (int left = more - 1; left >= 0; --left) *out += static_cast<char>(0x80 | ((code >> (6 * left)) & 0x3F));
  }

  const std::string& text_;
  const std::string where_;
  size_t at_ = 0;
};

Json Json::parse(const std::string& text, const std::string& where) { return JsonReader(text, where).all(); }

Json Json::read(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw BadInput(path + " cannot be read");
  std::ostringstream text;
  text << stream.rdbuf();
  return parse(text.str(), path);
}

void Json::expect(Kind kind, const char* called) const {
  if (kind_ != kind) throw BadInput(where_ + ": " + called + " expected");
}

const Json& Json::at(const std::string& key) const {
  expect(Kind::kObject, "keys and values");
  const auto found = members_.find(key);
  if (found == members_.end()) throw BadInput(where_ + ": key " + key + " is missing");
  return found->second;
}

double Json::number() const {
  expect(Kind::kNumber, "a number");
  return number_;
}

int Json::whole() const {
  expect(Kind::kNumber, "a whole number");
  if (number_ != std::floor(number_) || std::fabs(number_) > 1e9) throw BadInput(where_ + ": a whole number expected");
  return static_cast<int>(number_);
}

bool Json::truth() const {
  expect(Kind::kTruth, "true or false");
  return truth_;
}

const std::string& Json::text() const {
  expect(Kind::kText, "a text");
  return text_;
}

const std::vector<Json>& Json::items() const {
  expect(Kind::kList, "a list");
  return items_;
}

std::vector<double> Json::numbers() const {
  std::vector<double> values;
  for (const Json& item : items()) values.push_back(item.number());
  return values;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') {
      result += '\\';
      result += letter;
    } else if (static_cast<unsigned char>(letter) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(letter));
      result += code;
    } else {
      result += letter;
    }
  }
  return result + '"';
}

}  // namespace board
