// Quality of a configuration on a table of categorical columns, over several
// seeds: what the published benchmarks do (vocabulary from the training file,
// select on the validation file, test once). The floor of a line is the figure
// given by --published_auc.
//
//   bench_model_quality --config=FILE --train=CSV --valid=CSV [--test=CSV]
//       [--label=label] [--seeds=5] [--threads=0] [--published_auc=X]
//       [--scores=FILE]
//
// CSV with a header, plain or gzip; every column but the label is a field.
// FILE: a TrainerConfig, of which `embedding` or `logistic` and `seed` are
// read. --scores: writes the probabilities of the last file, a column a seed.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "model/model.h"
#include "model/portable_math.h"
#include "tools/line_reader.h"
#include "trainer/fit.h"
#include "trainer/make_learner.h"
#include "trainer/metrics.h"

namespace adrank {
namespace {

struct Flags {
  std::string config, train, valid, test, scores;
  std::string label = "label";
  uint32_t seeds = 5;
  uint32_t threads = 0;
  double published_auc = 0;
};

// A field's value, counted over the training file.
struct Value {
  uint32_t examples = 0;
  uint32_t row = kNoRow;
};

struct Table {
  std::vector<std::string> fields;
  std::vector<absl::flat_hash_map<std::string, Value>> values;  // by field
  std::vector<uint32_t> oov_rows;                               // or empty
  uint32_t rows = 0;
};

// Calls visit(label, columns without the label) for every line.
template <typename Visit>
absl::Status ForEachLine(const std::string& path, const std::string& label,
                         std::vector<std::string>* fields, const Visit& visit) {
  ASSIGN_OR_RETURN(const auto reader, LineReader::Open(path));
  if (!reader->Next()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no header"));
  }
  const std::vector<std::string> header = absl::StrSplit(reader->text(), ',');
  size_t at = header.size();
  fields->clear();
  for (size_t c = 0; c < header.size(); ++c) {
    if (header[c] == label) {
      at = c;
    } else {
      fields->push_back(header[c]);
    }
  }
  if (at == header.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": no column \"", label, "\""));
  }
  while (reader->Next()) {
    std::vector<absl::string_view> columns =
        absl::StrSplit(reader->text(), ',');
    if (columns.size() != header.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", reader->line(), ": ", columns.size(),
                       " columns, the header has ", header.size()));
    }
    const absl::string_view y = columns[at];
    if (y != "0" && y != "1") {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ":", reader->line(), ": label \"", y, "\" is not 0 or 1"));
    }
    columns.erase(columns.begin() + static_cast<ptrdiff_t>(at));
    RETURN_IF_ERROR(visit(y == "1", columns));
  }
  return reader->status();
}

absl::StatusOr<Table> ReadVocabulary(const Flags& flags, uint32_t min_count,
                                     bool oov) {
  Table table;
  RETURN_IF_ERROR(ForEachLine(
      flags.train, flags.label, &table.fields, [&](bool, const auto& columns) {
        table.values.resize(columns.size());
        for (size_t f = 0; f < columns.size(); ++f) {
          ++table.values[f][std::string(columns[f])].examples;
        }
        return absl::OkStatus();
      }));
  for (auto& field : table.values) {
    // By text, so that rows do not depend on the order of a hash table.
    std::map<std::string, Value*> sorted;
    for (auto& [text, value] : field) sorted[text] = &value;
    for (auto& [text, value] : sorted) {
      if (value->examples >= min_count) value->row = table.rows++;
    }
    if (oov) table.oov_rows.push_back(table.rows++);
  }
  return table;
}

absl::StatusOr<ExampleBlocks> Pack(const Flags& flags, const Table& table,
                                   const std::string& path) {
  ExampleBlocksOptions options;
  options.block_bytes = 64 << 20;  // shuffled as a whole
  ExampleBlocks blocks(options);
  std::vector<std::string> fields;
  std::vector<uint32_t> rows(table.fields.size());
  uint64_t line = 0;
  RETURN_IF_ERROR(ForEachLine(
      path, flags.label, &fields,
      [&](bool label, const auto& columns) -> absl::Status {
        if (line++ == 0 && fields != table.fields) {
          return absl::InvalidArgumentError(
              absl::StrCat(path, ": other columns than ", flags.train));
        }
        for (size_t f = 0; f < rows.size(); ++f) {
          const auto it = table.values[f].find(std::string(columns[f]));
          rows[f] = it != table.values[f].end() ? it->second.row : kNoRow;
          if (rows[f] == kNoRow && !table.oov_rows.empty()) {
            rows[f] = table.oov_rows[f];
          }
        }
        return blocks.Add(rows, {}, label);
      }));
  RETURN_IF_ERROR(blocks.Finish());
  return blocks;
}

struct Outcome {
  v1::Metrics valid, test;
  uint32_t passes = 0, best_pass = 0;
  double seconds = 0;
  std::vector<float> pctr;  // of the last file
};

absl::StatusOr<std::vector<float>> Score(const ExampleBlocks& blocks,
                                         const Learner& learner) {
  std::vector<float> pctr, logits;
  RETURN_IF_ERROR(blocks.ForEach([&](const ExampleBlock& block) {
    logits.resize(block.examples());
    RETURN_IF_ERROR(learner.Predict(block, absl::MakeSpan(logits)));
    for (const float logit : logits) pctr.push_back(Sigmoid(logit));
    return absl::OkStatus();
  }));
  return pctr;
}

class Bench {
 public:
  explicit Bench(Flags flags) : flags_(std::move(flags)) {}

  absl::Status Run() {
    ASSIGN_OR_RETURN(config_, ReadTextProto<v1::TrainerConfig>(flags_.config));
    const VocabularyNeeds needs = VocabularyNeedsOf(config_);
    const bool oov = needs.out_of_vocabulary == v1::OOV_ROW ||
                     needs.out_of_vocabulary == v1::OOV_RARE;
    ASSIGN_OR_RETURN(table_, ReadVocabulary(flags_, needs.min_count, oov));
    ASSIGN_OR_RETURN(train_, Pack(flags_, table_, flags_.train));
    ASSIGN_OR_RETURN(valid_, Pack(flags_, table_, flags_.valid));
    if (!flags_.test.empty()) {
      ASSIGN_OR_RETURN(test_, Pack(flags_, table_, flags_.test));
    }
    std::vector<Outcome> outcomes;
    for (uint32_t s = 0; s < flags_.seeds; ++s) {
      ASSIGN_OR_RETURN(Outcome outcome, One(config_.seed() + s));
      Print("valid", outcome, outcome.valid, s);
      if (!flags_.test.empty()) Print("test", outcome, outcome.test, s);
      outcomes.push_back(std::move(outcome));
    }
    PrintMean("valid", outcomes, [](const Outcome& o) { return &o.valid; });
    if (!flags_.test.empty()) {
      PrintMean("test", outcomes, [](const Outcome& o) { return &o.test; });
    }
    return WriteScores(outcomes);
  }

 private:
  absl::StatusOr<Outcome> One(uint64_t seed) {
    v1::TrainerConfig config = config_;
    config.set_seed(seed);
    config.set_threads(flags_.threads);
    FieldLayout layout;
    layout.names = table_.fields;
    layout.context.resize(table_.fields.size());
    layout.position.resize(table_.fields.size());
    const FitOptions fit = FitOptionsOf(config);
    ASSIGN_OR_RETURN(const std::unique_ptr<Learner> learner,
                     MakeLearner(config, layout, table_.rows, train_));
    StepProgress progress(Clock::Real());
    const auto begin = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(const FitResult result,
                     Fit(fit, train_, valid_, learner.get(), &progress));
    Outcome outcome;
    outcome.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
            .count();
    outcome.passes = static_cast<uint32_t>(result.progressive.size());
    outcome.best_pass = result.best_pass;
    ASSIGN_OR_RETURN(outcome.valid, Validate(valid_, *learner));
    if (!flags_.test.empty()) {
      ASSIGN_OR_RETURN(outcome.test, Validate(test_, *learner));
    }
    if (!flags_.scores.empty()) {
      ASSIGN_OR_RETURN(outcome.pctr,
                       Score(flags_.test.empty() ? valid_ : test_, *learner));
    }
    return outcome;
  }

  void Print(const char* set, const Outcome& o, const v1::Metrics& m,
             uint32_t seed) const {
    Line(set, m.auc(),
         absl::StrFormat(
             "\"seed\":%d,\"logloss\":%.6f,\"ece\":%.5f,"
             "\"passes\":%d,\"best_pass\":%d,\"seconds\":%.1f,"
             "\"rows_per_s\":%.0f",
             config_.seed() + seed, m.logloss(), m.ece(), o.passes,
             o.best_pass + 1, o.seconds,
             static_cast<double>(train_.examples()) * o.passes / o.seconds));
  }

  template <typename Of>
  void PrintMean(const char* set, const std::vector<Outcome>& outcomes,
                 const Of& of) const {
    double auc = 0, auc2 = 0, loss = 0, loss2 = 0;
    for (const Outcome& o : outcomes) {
      auc += of(o)->auc();
      auc2 += of(o)->auc() * of(o)->auc();
      loss += of(o)->logloss();
      loss2 += of(o)->logloss() * of(o)->logloss();
    }
    const double n = static_cast<double>(outcomes.size());
    const auto sd = [n](double sum, double squares) {
      return n > 1
                 ? std::sqrt(std::max(0.0, (squares - sum * sum / n) / (n - 1)))
                 : 0.0;
    };
    Line(absl::StrCat(set, "_mean"), auc / n,
         absl::StrFormat("\"seeds\":%d,\"auc_sd\":%.6f,\"logloss\":%.6f,"
                         "\"logloss_sd\":%.6f",
                         outcomes.size(), sd(auc, auc2), loss / n,
                         sd(loss, loss2)));
  }

  void Line(absl::string_view what, double auc,
            absl::string_view params) const {
    absl::PrintF(
        "{\"name\":\"model_quality/%s\",\"value\":%.6f,\"unit\":\"AUC\","
        "\"floor\":%.6f,\"ratio\":%.5f,\"params\":{\"config\":\"%s\",%s}}\n",
        what, auc, flags_.published_auc,
        flags_.published_auc > 0 ? auc / flags_.published_auc : 0.0,
        flags_.config, params);
    fflush(stdout);
  }

  absl::Status WriteScores(const std::vector<Outcome>& outcomes) const {
    if (flags_.scores.empty()) return absl::OkStatus();
    std::ofstream out(flags_.scores);
    for (size_t i = 0; i < outcomes[0].pctr.size(); ++i) {
      for (size_t s = 0; s < outcomes.size(); ++s) {
        out << (s == 0 ? "" : ",") << outcomes[s].pctr[i];
      }
      out << "\n";
    }
    return out ? absl::OkStatus()
               : absl::InternalError(absl::StrCat("write ", flags_.scores));
  }

  const Flags flags_;
  v1::TrainerConfig config_;
  Table table_;
  ExampleBlocks train_, valid_, test_;
};

int Main(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    const auto text = [&](absl::string_view name, std::string* out) {
      if (!absl::ConsumePrefix(&arg, absl::StrCat("--", name, "="))) {
        return false;
      }
      *out = std::string(arg);
      return true;
    };
    std::string number;
    if (text("config", &flags.config) || text("train", &flags.train) ||
        text("valid", &flags.valid) || text("test", &flags.test) ||
        text("label", &flags.label) || text("scores", &flags.scores)) {
      continue;
    }
    if (text("seeds", &number) && absl::SimpleAtoi(number, &flags.seeds)) {
      continue;
    }
    if (text("threads", &number) && absl::SimpleAtoi(number, &flags.threads)) {
      continue;
    }
    if (text("published_auc", &number) &&
        absl::SimpleAtod(number, &flags.published_auc)) {
      continue;
    }
    absl::FPrintF(stderr, "unknown argument: %s\n", argv[i]);
    return 2;
  }
  if (flags.config.empty() || flags.train.empty() || flags.valid.empty()) {
    absl::FPrintF(stderr,
                  "usage: bench_model_quality --config=FILE --train=CSV "
                  "--valid=CSV [--test=CSV] [--label=label] [--seeds=5]\n");
    return 2;
  }
  const absl::Status status = Bench(flags).Run();
  if (!status.ok()) {
    absl::FPrintF(stderr, "bench_model_quality: %s\n", status.message());
    return status.code() == absl::StatusCode::kInvalidArgument ? 2 : 1;
  }
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
