// JSON, as far as settings.json and expected.json need it.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace board {

class Json {
 public:
  enum class Kind { kNull, kTruth, kNumber, kText, kList, kObject };

  // Parses a whole text; `where` names it in messages. Throws BadInput.
  static Json parse(const std::string& text, const std::string& where);
  static Json read(const std::string& path);

  // Members and values; each throws BadInput naming the key when it is missing or of another kind.
  const Json& at(const std::string& key) const;
  bool has(const std::string& key) const { return members_.count(key) != 0; }
  double number() const;
  int whole() const;
  bool truth() const;
  const std::string& text() const;
  const std::vector<Json>& items() const;
  std::vector<double> numbers() const;

 private:
  friend class JsonReader;
  void expect(Kind kind, const char* called) const;

  Kind kind_ = Kind::kNull;
  double number_ = 0;
  bool truth_ = false;
  std::string text_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
  std::string where_;  // file and keys, for messages
};

// A text as JSON, with its quotation marks.
std::string quoted(const std::string& text);

}  // namespace board
