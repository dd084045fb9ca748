#include "settings.h"

#include "errors.h"
#include "json.h"

namespace board {

namespace {

Nms nms_of(const Json& json) {
  return Nms{static_cast<float>(json.at("score_threshold").number()),
             static_cast<float>(json.at("nms_threshold").number()), json.at("nms_top_k").whole(),
             json.at("keep_top_k").whole()};
}

std::vector<std::string> texts(const Json& json) {
  std::vector<std::string> result;
  for (const Json& item : json.items()) result.push_back(item.text());
  return result;
}

void check(bool good, const std::string& path, const std::string& what) {
  if (!good) throw BadInput(path + ": " + what);
}

}  // namespace

void choose_model(Settings* settings, const std::string& precision) {
  std::string known;
  for (const Model& model : settings->models) {
    if (model.precision == precision) {
      settings->model = model;
      settings->model_chosen = true;
      return;
    }
    known += (known.empty() ? "" : ", ") + model.precision;
  }
  throw BadInput("--model: the package has no " + precision + " model; it has " + known);
}

Settings read_settings(const std::string& path) {
  const Json json = Json::read(path);
  Settings result;
  for (const Json& model : json.at("models").items())
    result.models.push_back({model.at("precision").text(), model.at("file").text(), model.at("sha256").text()});
  check(!result.models.empty(), path, "models: at least one expected");
  result.model = result.models.front();
  result.device = json.at("device").text();
  result.context_properties = json.at("context_properties").text();
  result.partition = json.at("partition").text();
  result.inputs = texts(json.at("inputs"));
  const std::vector<Json>& size = json.at("size").items();
  check(size.size() == 2 && size[0].whole() > 0 && size[1].whole() > 0, path, "size: height and width expected");
  result.height = size[0].whole();
  result.width = size[1].whole();
  result.keep_ratio = json.at("keep_ratio").truth();
  result.padding = json.at("padding").text();
  check(result.padding == "end" || result.padding == "centre" || result.padding == "start", path,
        "padding: end, centre or start expected");
  result.fill = json.at("fill").numbers();
  check(result.fill.size() == 3, path, "fill: three numbers expected");
  result.interpolation = json.at("interpolation").whole();
  result.is_scale = json.at("is_scale").truth();
  result.mean = json.at("mean").numbers();
  result.std = json.at("std").numbers();
  check(result.mean.size() == 3 && result.std.size() == 3, path, "mean and std: three numbers expected");
  result.outputs = json.at("outputs").text();
  check(result.outputs == "raw" || result.outputs == "boxes" || result.outputs == "detections", path,
        "outputs: raw, boxes or detections expected");
  result.class_outputs = json.at("class_outputs").text();
  check(result.class_outputs == "scores" || result.class_outputs == "logits", path,
        "class_outputs: scores or logits expected");
  for (const Json& stride : json.at("strides").items()) result.strides.push_back(stride.whole());
  for (const int stride : result.strides) check(stride > 0, path, "strides: numbers above 0 expected");
  check(!result.strides.empty(), path, "strides: at least one expected");
  result.cell_offset = static_cast<float>(json.at("cell_offset").number());
  result.nms = nms_of(json.at("nms"));
  result.labels = texts(json.at("labels"));
  return result;
}

}  // namespace board
