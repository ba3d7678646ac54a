#include "trainer/search_space.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "google/protobuf/descriptor.h"
#include "trainer/config.h"

namespace adrank {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;

constexpr uint64_t kMaxTrials = 10'000;

absl::Status Wrong(absl::string_view place, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(place, ": ", reason));
}

// A field of a message within another.
struct Place {
  Message* parent = nullptr;
  const FieldDescriptor* field = nullptr;
};

// "name[3]" -> name, 3; "name" -> name, -1.
absl::Status SplitIndex(absl::string_view segment, std::string* name,
                        int* index) {
  *index = -1;
  const size_t bracket = segment.find('[');
  *name = std::string(segment.substr(0, bracket));
  if (bracket == absl::string_view::npos) return absl::OkStatus();
  absl::string_view number = segment.substr(bracket + 1);
  if (absl::ConsumeSuffix(&number, "]") && absl::SimpleAtoi(number, index) &&
      *index >= 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", segment, "\" is not \"name[number]\""));
}

absl::StatusOr<Message*> Enter(const Place& at, int index) {
  const auto* reflection = at.parent->GetReflection();
  if (at.field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", at.field->name(), "\" has no fields"));
  }
  if (at.field->is_repeated() != (index >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", at.field->name(),
        at.field->is_repeated() ? "\" is a list: name an element, as in [0]"
                                : "\" is no list"));
  }
  if (index < 0) return reflection->MutableMessage(at.parent, at.field);
  const int size = reflection->FieldSize(*at.parent, at.field);
  if (index >= size) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", at.field->name(), "\" has ", size, " elements, no [",
                     index, "]"));
  }
  return reflection->MutableRepeatedMessage(at.parent, at.field, index);
}

absl::StatusOr<Place> Find(absl::string_view path, Message* message) {
  const std::vector<std::string> segments = absl::StrSplit(path, '.');
  Place at;
  for (size_t i = 0; i < segments.size(); ++i) {
    std::string name;
    int index;
    RETURN_IF_ERROR(SplitIndex(segments[i], &name, &index));
    at = {message, message->GetDescriptor()->FindFieldByName(name)};
    if (at.field == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("no field \"", name, "\" in ",
                       message->GetDescriptor()->full_name()));
    }
    if (i + 1 < segments.size()) {
      ASSIGN_OR_RETURN(message, Enter(at, index));
    } else if (index >= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", segments[i],
                       "\": set the whole list, or a field of [", index, "]"));
    }
  }
  return at;
}

// What a search may not vary, and why.
absl::Status CheckPath(const v1::TrainerConfig& config,
                       absl::string_view path) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  const std::string family = config.has_embedding() ? "embedding" : "logistic";
  const auto is_one_of = [](const std::string& name,
                            std::vector<std::string> list) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  const bool packs =
      is_one_of(names[0],
                {"data", "feature_spec", "vocabulary", "seed", "warm_start"}) ||
      (names.size() > 1 && names[0] == family &&
       is_one_of(names[1], {"min_count", "out_of_vocabulary", "oov_rate"}));
  if (packs) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " decides what is packed, and a search packs once"));
  }
  if (names[0] == "embedding" || names[0] == "logistic") {
    if (names[0] != family) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " has no effect: the configuration trains the ",
                       family, " family"));
    }
    if (names.size() == 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is a section: name a field of it"));
    }
    if (names[1] != "storage") return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, " does not change what is learnt"));
}

bool IsWhole(const FieldDescriptor& field) {
  return field.cpp_type() != FieldDescriptor::CPPTYPE_DOUBLE &&
         field.cpp_type() != FieldDescriptor::CPPTYPE_FLOAT;
}

bool IsNumber(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return !field.is_repeated();
    default:
      return false;
  }
}

// A parameter with the kind of its field.
struct Axis {
  const v1::SearchParameter* parameter;
  bool whole = false;

  // At share [0, 1] of the range. Six digits: what a person would write.
  std::string At(double share) const {
    const double low = parameter->low(), high = parameter->high();
    const double value = parameter->log() ? low * std::pow(high / low, share)
                                          : low + (high - low) * share;
    return whole ? absl::StrFormat("%.0f", std::round(value))
                 : absl::StrFormat("%.6g", value);
  }
  std::vector<std::string> Grid() const {
    if (parameter->values_size() > 0) {
      return {parameter->values().begin(), parameter->values().end()};
    }
    std::vector<std::string> values;
    const uint32_t steps = parameter->steps() > 0 ? parameter->steps() : 3;
    for (uint32_t i = 0; i < steps; ++i) {
      std::string value =
          At(steps == 1 ? 0 : static_cast<double>(i) / (steps - 1));
      if (values.empty() || values.back() != value) {
        values.push_back(std::move(value));
      }
    }
    return values;
  }
  std::string Draw(Rng* rng) const {
    const auto n = static_cast<uint64_t>(parameter->values_size());
    return n > 0 ? parameter->values(static_cast<int>(rng->Below(n)))
                 : At(rng->Uniform());
  }
};

absl::StatusOr<Axis> MakeAxis(const v1::TrainerConfig& written,
                              const v1::SearchParameter& parameter,
                              absl::string_view place) {
  v1::TrainerConfig config = written;
  auto at = Find(parameter.path(), &config);
  const std::string path_place = absl::StrCat(place, ".path");
  if (!at.ok()) {
    return Wrong(path_place, absl::StrCat("\"", parameter.path(),
                                          "\": ", at.status().message()));
  }
  RETURN_IF_ERROR(Annotate(CheckPath(written, parameter.path()), path_place));
  const Axis axis{&parameter, IsWhole(*at->field)};
  if (parameter.values_size() > 0) {
    if (parameter.low() != 0 || parameter.high() != 0) {
      return Wrong(place, "has values and a range");
    }
    return axis;
  }
  if (!IsNumber(*at->field)) {
    return Wrong(place, absl::StrCat(parameter.path(),
                                     " is not a number: it needs values"));
  }
  if (!(parameter.low() < parameter.high()) ||
      !std::isfinite(parameter.high() - parameter.low())) {
    return Wrong(place,
                 absl::StrCat("needs values, or low < high (", parameter.low(),
                              ", ", parameter.high(), ")"));
  }
  if (parameter.log() && parameter.low() <= 0) {
    return Wrong(absl::StrCat(place, ".low"),
                 absl::StrCat(parameter.low(), " has no logarithm"));
  }
  if (parameter.steps() > kMaxTrials) {
    return Wrong(absl::StrCat(place, ".steps"),
                 absl::StrCat(parameter.steps(), " is above ", kMaxTrials));
  }
  return axis;
}

using Combinations = std::vector<std::vector<std::string>>;

absl::StatusOr<Combinations> Grid(const std::vector<Axis>& axes) {
  Combinations all = {{}};
  for (const Axis& axis : axes) {
    const std::vector<std::string> values = axis.Grid();
    if (all.size() * values.size() > kMaxTrials) {
      return Wrong("search", absl::StrCat("the grid has more than ", kMaxTrials,
                                          " trials"));
    }
    Combinations longer;
    for (const std::vector<std::string>& begin : all) {
      for (const std::string& value : values) {
        longer.push_back(begin);
        longer.back().push_back(value);
      }
    }
    all = std::move(longer);
  }
  return all;
}

Combinations Draws(const std::vector<Axis>& axes,
                   const v1::SearchConfig& search) {
  Rng rng(MixBits(search.seed()));
  Combinations all(search.trials());
  for (std::vector<std::string>& values : all) {
    for (const Axis& axis : axes) values.push_back(axis.Draw(&rng));
  }
  return all;
}

}  // namespace

absl::Status SetByPath(absl::string_view path, absl::string_view value,
                       Message* message) {
  ASSIGN_OR_RETURN(const Place at, Find(path, message));
  const auto* reflection = at.parent->GetReflection();
  if (at.field->cpp_type() == FieldDescriptor::CPPTYPE_STRING &&
      !at.field->is_repeated()) {
    reflection->SetString(at.parent, at.field, std::string(value));
    return absl::OkStatus();
  }
  // Apart, so that a value cannot set another field.
  const std::unique_ptr<Message> alone(at.parent->New());
  const bool section = at.field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  const absl::Status parsed = ParseTextProto(
      absl::StrCat(at.field->name(), section ? " " : ": ", value), "value",
      alone.get());
  std::vector<const FieldDescriptor*> set;
  reflection->ListFields(*alone, &set);
  if (!parsed.ok() || set.size() > 1 || (!set.empty() && set[0] != at.field)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", value, "\" is no value of ", path,
                     parsed.ok() ? "" : absl::StrCat(": ", parsed.message())));
  }
  reflection->ClearField(at.parent, at.field);
  at.parent->MergeFrom(*alone);
  return absl::OkStatus();
}

absl::Status ResolveSearch(const v1::TrainerConfig& config,
                           v1::SearchConfig* search) {
  if (config.warm_start() || config.evaluate_only()) {
    return Wrong("search",
                 "every trial learns from scratch: not with "
                 "warm_start or evaluate_only");
  }
  if (config.calibration().method() == v1::CalibrationConfig::NONE) {
    return Wrong("search",
                 "trials are judged by the calibration window: "
                 "calibration.method NONE leaves none");
  }
  if (search->parameters().empty()) {
    return Wrong("search.parameters", "there are none");
  }
  if (!v1::SearchConfig::Kind_IsValid(search->kind()) ||
      !v1::EarlyStopping::Metric_IsValid(search->metric())) {
    return Wrong("search", "kind or metric is no known value");
  }
  if (search->kind() == v1::SearchConfig::KIND_UNSPECIFIED) {
    search->set_kind(v1::SearchConfig::GRID);
  }
  if (search->metric() == v1::EarlyStopping::METRIC_UNSPECIFIED) {
    search->set_metric(v1::EarlyStopping::AUC);
  }
  if (search->trials() == 0) search->set_trials(20);
  if (search->rungs() == 0) search->set_rungs(1);
  if (search->reduction() == 0) search->set_reduction(3);
  struct Bound {
    const char* name;
    uint32_t value, low, high;
  };
  for (const Bound& b :
       {Bound{"trials", search->trials(), 1, uint32_t{kMaxTrials}},
        Bound{"rungs", search->rungs(), 1, 10},
        Bound{"reduction", search->reduction(), 2, 100}}) {
    if (b.value >= b.low && b.value <= b.high) continue;
    return Wrong(
        absl::StrCat("search.", b.name),
        absl::StrCat(b.value, " is not in [", b.low, ", ", b.high, "]"));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::TrainerConfig> WithValues(
    const v1::TrainerConfig& written, const std::vector<std::string>& values) {
  v1::TrainerConfig config = written;
  config.clear_search();
  for (int i = 0; i < written.search().parameters_size(); ++i) {
    RETURN_IF_ERROR(Annotate(SetByPath(written.search().parameters(i).path(),
                                       values[static_cast<size_t>(i)], &config),
                             absl::StrCat("search.parameters[", i, "]")));
  }
  return config;
}

absl::StatusOr<std::vector<TrialPlan>> PlanTrials(
    const v1::TrainerConfig& written) {
  v1::SearchConfig search = written.search();
  RETURN_IF_ERROR(ResolveSearch(written, &search));
  std::vector<Axis> axes;
  for (int i = 0; i < search.parameters_size(); ++i) {
    ASSIGN_OR_RETURN(axes.emplace_back(),
                     MakeAxis(written, search.parameters(i),
                              absl::StrCat("search.parameters[", i, "]")));
  }
  Combinations all;
  if (search.kind() == v1::SearchConfig::RANDOM) {
    all = Draws(axes, search);
  } else {
    ASSIGN_OR_RETURN(all, Grid(axes));
  }
  std::vector<TrialPlan> plans;
  for (std::vector<std::string>& values : all) {
    ASSIGN_OR_RETURN(v1::TrainerConfig config, WithValues(written, values));
    auto resolved = ResolveConfig(std::move(config));
    if (!resolved.ok()) {
      return Annotate(resolved.status(),
                      absl::StrCat("search: trial ", plans.size() + 1));
    }
    plans.push_back({std::move(values), *std::move(resolved)});
  }
  return plans;
}

uint64_t RungBlocks(uint64_t blocks, uint32_t rung,
                    const v1::SearchConfig& search) {
  for (uint32_t r = rung + 1; r < search.rungs(); ++r) {
    blocks = (blocks + search.reduction() - 1) / search.reduction();
  }
  return blocks;
}

size_t Survivors(size_t n, const v1::SearchConfig& search) {
  return std::max<size_t>(1, n / search.reduction());
}

}  // namespace adrank
