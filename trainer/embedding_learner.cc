#include "trainer/embedding_learner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "model/model.h"
#include "model/model_bundle.h"
#include "model/portable_math.h"
#include "trainer/batch_entries.h"
#include "trainer/dense_adam.h"
#include "trainer/graph_trainer.h"
#include "trainer/progress.h"
#include "trainer/sealed_state.h"
#include "trainer/thread_team.h"

namespace adrank {
namespace {

constexpr uint32_t kMaxThreads = 64;
constexpr char kMagic[] = "AXEMBD01";
constexpr uint64_t kRowSalt = 0x726f7773;
// Rows of a table that one task steps through.
constexpr uint64_t kTableRange = 4096;

uint32_t Threads(uint32_t threads) {
  if (threads == 0) threads = std::thread::hardware_concurrency();
  return std::clamp<uint32_t>(threads, 1, kMaxThreads);
}

// to += value x v. The usual sizes as loops of a known length: a third of the
// time.
inline void AddEmbedding(uint32_t dim, float value, const float* v, float* to) {
  if (dim == 16) {
    for (uint32_t d = 0; d < 16; ++d) to[d] += value * v[d];
  } else if (dim == 8) {
    for (uint32_t d = 0; d < 8; ++d) to[d] += value * v[d];
  } else {
    for (uint32_t d = 0; d < dim; ++d) to[d] += value * v[d];
  }
}

struct StateHead {
  char magic[8];
  uint64_t parameters;
  uint64_t steps;
  uint64_t schedule_begin;
  uint64_t schedule_examples;
  uint64_t examples;
  double rate_scale;
};

}  // namespace

class EmbeddingLearner::Impl {
 public:
  Impl(const EmbeddingOptions& options, Graph training, Graph inference,
       uint64_t rows)
      : options_(options),
        inference_(std::move(inference)),
        team_(Threads(options.threads)),
        trainer_(std::move(training), {options.seed, options.bf16}, &team_),
        table_(TableOptions(options, trainer_.graph()), rows),
        dense_(trainer_.graph(), options.dense_rate, options.dense_l2,
               options.average_decay) {
    trainer_.parameters()[0] = options.initial_bias;
    dense_.StartAverage(trainer_.parameters());
  }

  absl::Status Check(const ExampleBlock& block) const;
  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order);
  absl::Status Predict(const ExampleBlock& block, absl::Span<float> logits);
  std::string Save() const;
  absl::Status Restore(absl::string_view state);
  EmbeddingWeights Freeze();
  void Settle();
  // The parameters that are evaluated.
  const std::vector<float>& Evaluated() const {
    return options_.average_decay > 0 ? dense_.average()
                                      : trainer_.parameters();
  }

  const EmbeddingOptions options_;
  const Graph inference_;
  ThreadTeam team_;
  GraphTrainer trainer_;
  RowTable table_;
  DenseAdam dense_;
  BatchEntries entries_;
  ProgressMeter meter_;
  uint64_t schedule_begin_ = 0;  // examples seen when it began
  uint64_t schedule_examples_ = 0;
  uint64_t examples_ = 0;
  double rate_scale_ = 1;

 private:
  static RowTableOptions TableOptions(const EmbeddingOptions& options,
                                      const Graph& graph) {
    RowTableOptions table = options.table;
    table.dim = graph.dim;
    table.linear = graph.linear;
    table.seed = MixBits(options.seed ^ kRowSalt);
    table.average_decay = options.average_decay;
    if (!graph.linear) table.linear_ftrl = false;
    return table;
  }

  bool dense_table() const {
    return options_.table.optimizer == RowTableOptions::Optimizer::kAdam;
  }
  float RateFactor() const;
  void Batch(const ExampleBlock& block, absl::Span<const uint32_t> examples);
  void Gather(bool evaluated);
  void Judge(const ExampleBlock& block, absl::Span<const uint32_t> examples);
  // Gradient of what entry e adds to the input.
  const float* EntryGradient(size_t e) const;
  void PrefetchGradient(size_t e) const;
  uint32_t RowGradient(absl::Span<const uint32_t> group, float* gradient) const;
  void StepRows();
  void StepAllRows(float scale);
  double TableSquares();
  // Cuts n examples into batches of nearly equal size.
  template <typename Work>
  void ForEachBatch(size_t n, const Work& work) const {
    const size_t batches = (n + options_.batch_size - 1) / options_.batch_size;
    for (size_t b = 0; b < batches; ++b) {
      const size_t begin = n * b / batches;
      work(begin, n * (b + 1) / batches - begin);
    }
  }
};

absl::Status EmbeddingLearner::Impl::Check(const ExampleBlock& block) const {
  if (block.row_limit() > table_.rows()) {
    return absl::InvalidArgumentError(
        absl::StrCat("examples name row ", block.row_limit() - 1,
                     ", the learner has ", table_.rows(), " rows"));
  }
  const size_t fields = inference_.fields.size();
  const size_t limit =
      block.fields() == nullptr ? block.width() : block.field_limit();
  if (limit > fields) {
    return absl::InvalidArgumentError(absl::StrCat(
        "examples name field ", limit - 1, ", the graph has ", fields));
  }
  return absl::OkStatus();
}

float EmbeddingLearner::Impl::RateFactor() const {
  const v1::Schedule& s = options_.schedule;
  const double total = static_cast<double>(schedule_examples_);
  double factor = rate_scale_;
  if (total <= 0) return static_cast<float>(factor);
  const double at = std::clamp(
      static_cast<double>(examples_ - schedule_begin_) / total, 0.0, 1.0);
  if (at < s.warm_up()) factor *= at / s.warm_up();
  const double begin = std::max(s.decay_begin(), s.warm_up());
  const double x = begin < 1 ? std::max(0.0, (at - begin) / (1 - begin)) : 0;
  if (s.decay() == v1::Schedule::LINEAR) {
    factor *= 1 - x * (1 - s.final_factor());
  } else if (s.decay() == v1::Schedule::COSINE) {
    factor *= s.final_factor() +
              (1 - s.final_factor()) * 0.5 * (1 + std::cos(x * M_PI));
  }
  return static_cast<float>(factor);
}

absl::Status EmbeddingLearner::Impl::Update(const ExampleBlock& block,
                                            absl::Span<const uint32_t> order) {
  RETURN_IF_ERROR(Check(block));
  std::vector<uint32_t> all;
  if (order.empty()) {
    all.resize(block.examples());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint32_t>(i);
    order = all;
  }
  for (const uint32_t i : order) {
    if (i >= block.examples()) {
      return absl::InvalidArgumentError(
          absl::StrCat("order names example ", i, " of ", block.examples()));
    }
  }
  ForEachBatch(order.size(), [&](size_t begin, size_t n) {
    Batch(block, order.subspan(begin, n));
  });
  return absl::OkStatus();
}

void EmbeddingLearner::Impl::Batch(const ExampleBlock& block,
                                   absl::Span<const uint32_t> examples) {
  const float factor = RateFactor();
  table_.BeginStep(factor, examples.size());
  entries_.Assign(block, examples, &team_);
  entries_.Sort(&team_);
  if (options_.table.optimizer == RowTableOptions::Optimizer::kAdamLazy) {
    entries_.ForEachRow(
        &team_, [&](size_t e) { table_.Prefetch(entries_.row(e)); },
        [&](uint32_t row, absl::Span<const uint32_t>) { table_.CatchUp(row); });
  }
  trainer_.Resize(examples.size());
  Gather(false);
  trainer_.Forward(true, table_.step());
  Judge(block, examples);
  trainer_.Backward();
  double squares =
      dense_.Squares(trainer_.parameters(), trainer_.gradients(), &team_);
  float scale = 1;
  if (dense_table()) {
    entries_.ForEachRow(&team_,
                        [&](uint32_t row, absl::Span<const uint32_t> group) {
                          float gradient[160];
                          const uint32_t named = RowGradient(group, gradient);
                          table_.AddGradient(row, gradient, named);
                        });
    squares += TableSquares();
  }
  if (options_.clip_norm > 0 &&
      squares > double{options_.clip_norm} * options_.clip_norm) {
    scale = static_cast<float>(options_.clip_norm / std::sqrt(squares));
  }
  if (dense_table()) {
    StepAllRows(scale);
  } else {
    StepRows();
  }
  dense_.Step(factor, scale, trainer_.gradients(), &trainer_.parameters(),
              &team_);
  trainer_.ParametersChanged();
  examples_ += examples.size();
}

// Embeddings, pooled by field, and the linear part of every example.
void EmbeddingLearner::Impl::Gather(bool evaluated) {
  const Graph& graph = inference_;
  const size_t width = graph.input_width();
  entries_.ForEachExample(&team_, [&](size_t i, size_t begin, size_t end) {
    float* const x = trainer_.input() + i * width;
    std::fill_n(x, width, 0.0f);
    double linear = 0;
    float square = 0;
    for (size_t e = begin; e < end; ++e) {
      if (e + 16 < entries_.size()) {
        __builtin_prefetch(table_.row(entries_.row(e + 16)));
      }
      const uint32_t r = entries_.row(e);
      const float* const v = evaluated ? table_.evaluated(r) : table_.row(r);
      const float value = entries_.value(e);
      const GraphField& field = graph.fields[entries_.field(e)];
      float* const to = x + field.column;
      AddEmbedding(field.dim, value, v, to);
      if (graph.linear) linear += double{value} * v[graph.dim];
      if (graph.has_fm) {
        float sum = 0;
        for (uint32_t d = 0; d < field.dim; ++d) sum += v[d] * v[d];
        square += value * value * sum;
      }
    }
    trainer_.linear()[i] = static_cast<float>(linear);
    trainer_.square()[i] = square;
  });
}

// The loss's derivatives: mean over the batch of the weighted log loss, plus,
// with self-distillation, each stream's log loss against the combined
// probability, which is not differentiated.
void EmbeddingLearner::Impl::Judge(const ExampleBlock& block,
                                   absl::Span<const uint32_t> examples) {
  const Graph& graph = trainer_.graph();
  const double n = static_cast<double>(examples.size());
  const double share = graph.mean ? 1.0 / graph.outputs : 1.0;
  for (size_t i = 0; i < examples.size(); ++i) {
    const double weight = block.weight(examples[i]);
    const double p = Sigmoid(trainer_.logits()[i]);
    const bool label = block.label(examples[i]);
    meter_.Add(trainer_.logits()[i], p, label, block.weight(examples[i]));
    const double delta = (p - (label ? 1.0 : 0.0)) * weight / n;
    double shared = delta;
    for (uint16_t o = 0; o < graph.outputs; ++o) {
      double own = share * delta;
      if (options_.self_distillation) {
        const double q = Sigmoid(trainer_.OutputLogit(o, i));
        const double distilled = (q - p) * weight / n;
        own += distilled;
        shared += distilled;
      }
      trainer_.output_deltas(o)[i] = static_cast<float>(own);
    }
    trainer_.shared_deltas()[i] = static_cast<float>(shared);
  }
}

const float* EmbeddingLearner::Impl::EntryGradient(size_t e) const {
  return trainer_.input_gradient() +
         size_t{entries_.example(e)} * inference_.input_width() +
         inference_.fields[entries_.field(e)].column;
}

void EmbeddingLearner::Impl::PrefetchGradient(size_t e) const {
  const float* const d = EntryGradient(e);
  __builtin_prefetch(d);
  __builtin_prefetch(d + inference_.fields[entries_.field(e)].dim);
}

// Sum over the group's entries, in their order. How many examples they are of.
uint32_t EmbeddingLearner::Impl::RowGradient(absl::Span<const uint32_t> group,
                                             float* gradient) const {
  const Graph& graph = inference_;
  std::fill_n(gradient, table_.stride(), 0.0f);
  float self = 0;
  uint32_t named = 0, last = 0;
  for (size_t j = 0; j < group.size(); ++j) {
    const size_t ahead = j + BatchEntries::kEntriesAhead;
    if (ahead < group.size()) PrefetchGradient(group[ahead]);
    const uint32_t e = group[j];
    const uint32_t i = entries_.example(e);
    if (named == 0 || i != last) ++named;
    last = i;
    const float value = entries_.value(e);
    const GraphField& field = graph.fields[entries_.field(e)];
    AddEmbedding(field.dim, value, EntryGradient(e), gradient);
    const float delta = const_cast<GraphTrainer&>(trainer_).shared_deltas()[i];
    if (graph.linear) gradient[graph.dim] += value * delta;
    // Fields that are linear alone may share a hashed row with others.
    if (field.dim > 0) self += delta * value * value;
  }
  if (graph.has_fm) {  // an entry has no pair with itself
    const float* const v = table_.row(entries_.row(group[0]));
    for (uint32_t k = 0; k < graph.dim; ++k) gradient[k] -= self * v[k];
  }
  return named;
}

void EmbeddingLearner::Impl::StepRows() {
  entries_.ForEachRow(
      &team_,
      [&](size_t e) {
        PrefetchGradient(e);
        table_.Prefetch(entries_.row(e));
      },
      [&](uint32_t row, absl::Span<const uint32_t> group) {
        float gradient[160];
        const uint32_t named = RowGradient(group, gradient);
        table_.Step(row, gradient, named);
      });
}

double EmbeddingLearner::Impl::TableSquares() {
  const uint64_t ranges = (table_.rows() + kTableRange - 1) / kTableRange;
  std::vector<double> squares(ranges);
  ParallelFor(&team_, ranges, [&](size_t i, uint32_t) {
    squares[i] = table_.Regularize(
        i * kTableRange, std::min(table_.rows(), (i + 1) * kTableRange));
  });
  double sum = 0;
  for (const double s : squares) sum += s;
  return sum;
}

void EmbeddingLearner::Impl::StepAllRows(float scale) {
  const uint64_t ranges = (table_.rows() + kTableRange - 1) / kTableRange;
  ParallelFor(&team_, ranges, [&](size_t i, uint32_t) {
    table_.StepAll(i * kTableRange,
                   std::min(table_.rows(), (i + 1) * kTableRange), scale);
  });
}

void EmbeddingLearner::Impl::Settle() {
  const uint64_t ranges = (table_.rows() + kTableRange - 1) / kTableRange;
  ParallelFor(&team_, ranges, [&](size_t i, uint32_t) {
    table_.Settle(i * kTableRange,
                  std::min(table_.rows(), (i + 1) * kTableRange));
  });
}

absl::Status EmbeddingLearner::Impl::Predict(const ExampleBlock& block,
                                             absl::Span<float> logits) {
  CHECK_EQ(logits.size(), block.examples());
  RETURN_IF_ERROR(Check(block));
  Settle();
  std::vector<float> learnt;
  if (options_.average_decay > 0) {
    learnt = trainer_.parameters();
    trainer_.parameters() = dense_.average();
    trainer_.ParametersChanged();
  }
  std::vector<uint32_t> all(block.examples());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint32_t>(i);
  ForEachBatch(all.size(), [&](size_t begin, size_t n) {
    entries_.Assign(block, absl::MakeConstSpan(all).subspan(begin, n), &team_);
    trainer_.Resize(n);
    Gather(true);
    trainer_.Forward(false, 0);
    std::copy_n(trainer_.logits().begin(), n, logits.begin() + begin);
  });
  if (options_.average_decay > 0) {
    trainer_.parameters() = std::move(learnt);
    trainer_.ParametersChanged();
  }
  return absl::OkStatus();
}

EmbeddingWeights EmbeddingLearner::Impl::Freeze() {
  Settle();
  EmbeddingWeights frozen;
  const uint32_t dim = inference_.dim;
  frozen.dim = dim;
  frozen.parameters = FoldBatchNorm(trainer_.graph(), Evaluated(), inference_);
  frozen.vectors.resize(table_.rows() * dim);
  if (inference_.linear) frozen.linear.resize(table_.rows());
  for (uint64_t r = 0; r < table_.rows(); ++r) {
    const float* const w = table_.evaluated(r);
    std::copy_n(w, dim, &frozen.vectors[r * dim]);
    if (inference_.linear) frozen.linear[r] = w[dim];
  }
  return frozen;
}

std::string EmbeddingLearner::Impl::Save() const {
  StateHead head = {{},
                    trainer_.parameters().size(),
                    table_.step(),
                    schedule_begin_,
                    schedule_examples_,
                    examples_,
                    rate_scale_};
  std::memcpy(head.magic, kMagic, sizeof(head.magic));
  std::string state;
  state.append(reinterpret_cast<const char*>(&head), sizeof(head));
  const std::vector<float>& p = trainer_.parameters();
  state.append(reinterpret_cast<const char*>(p.data()),
               p.size() * sizeof(float));
  dense_.Save(&state);
  table_.Save(&state);
  SealState(&state);
  return state;
}

absl::Status EmbeddingLearner::Impl::Restore(absl::string_view state) {
  ASSIGN_OR_RETURN(absl::string_view rest,
                   OpenState(state, kMagic, sizeof(StateHead), "an embedding"));
  StateHead head;
  std::memcpy(&head, state.data(), sizeof(head));
  if (head.parameters != trainer_.parameters().size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "optimizer state: of a graph of ", head.parameters,
        " parameters, this one has ", trainer_.parameters().size()));
  }
  // Into copies, so that an error changes nothing.
  std::vector<float> parameters(head.parameters);
  if (rest.size() < parameters.size() * sizeof(float)) {
    return absl::DataLossError("optimizer state: cut short");
  }
  std::memcpy(parameters.data(), rest.data(),
              parameters.size() * sizeof(float));
  rest.remove_prefix(parameters.size() * sizeof(float));
  DenseAdam dense = dense_;
  RETURN_IF_ERROR(dense.Restore(&rest));
  RETURN_IF_ERROR(table_.Restore(&rest));  // last: alone changes something
  dense_ = std::move(dense);
  trainer_.parameters() = std::move(parameters);
  trainer_.ParametersChanged();
  schedule_begin_ = head.schedule_begin;
  schedule_examples_ = head.schedule_examples;
  examples_ = head.examples;
  rate_scale_ = head.rate_scale;
  return absl::OkStatus();
}

EmbeddingLearner::EmbeddingLearner(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
EmbeddingLearner::~EmbeddingLearner() = default;

absl::StatusOr<std::unique_ptr<EmbeddingLearner>> EmbeddingLearner::Create(
    const EmbeddingOptions& options, const FieldLayout& fields, uint64_t rows) {
  ASSIGN_OR_RETURN(Graph training, Graph::Create(options.graph, fields, true));
  ASSIGN_OR_RETURN(Graph inference,
                   Graph::Create(options.graph, fields, false));
  RETURN_IF_ERROR(CheckOptions(options, training, rows));
  return std::unique_ptr<EmbeddingLearner>(
      new EmbeddingLearner(std::make_unique<Impl>(options, std::move(training),
                                                  std::move(inference), rows)));
}

absl::Status EmbeddingLearner::Update(const ExampleBlock& block,
                                      absl::Span<const uint32_t> order) {
  return impl_->Update(block, order);
}
absl::Status EmbeddingLearner::Predict(const ExampleBlock& block,
                                       absl::Span<float> logits) const {
  return impl_->Predict(block, logits);
}
v1::Metrics EmbeddingLearner::Progress() const {
  return impl_->meter_.Metrics();
}
void EmbeddingLearner::ResetProgress() { impl_->meter_.Reset(); }
ProgressMeter EmbeddingLearner::Meter() const { return impl_->meter_; }
void EmbeddingLearner::SetMeter(const ProgressMeter& meter) {
  impl_->meter_ = meter;
}
std::string EmbeddingLearner::Save() const { return impl_->Save(); }
absl::Status EmbeddingLearner::Restore(absl::string_view state) {
  return impl_->Restore(state);
}
void EmbeddingLearner::ScaleRate(double factor) {
  impl_->rate_scale_ *= factor;
}
void EmbeddingLearner::Begin(uint64_t examples) {
  impl_->schedule_begin_ = impl_->examples_;
  impl_->schedule_examples_ = examples;
  impl_->rate_scale_ = 1;
}
void EmbeddingLearner::FreezeInto(BundleContents* contents) const {
  *contents->manifest.mutable_graph() = impl_->inference_.spec;
  contents->embedding = Freeze();
}
EmbeddingWeights EmbeddingLearner::Freeze() const { return impl_->Freeze(); }
uint64_t EmbeddingLearner::rows() const { return impl_->table_.rows(); }
uint64_t EmbeddingLearner::bytes() const { return impl_->table_.bytes(); }

absl::Status EmbeddingLearner::Remap(absl::Span<const uint32_t> source) {
  for (const uint32_t s : source) {
    if (s != kNoRow && s >= rows()) {
      return absl::InvalidArgumentError(
          absl::StrCat("remap: row ", s, " of a learner of ", rows(), " rows"));
    }
  }
  impl_->Settle();
  impl_->table_.Remap(source);
  return absl::OkStatus();
}

absl::Status EmbeddingLearner::CheckFinite() const {
  impl_->Settle();
  const uint64_t row = impl_->table_.FirstNotFinite();
  if (row < rows()) {
    return absl::InternalError(
        absl::StrCat("embedding: a weight of row ", row, " is not finite"));
  }
  const std::vector<float>& p = impl_->Evaluated();
  for (const Tensor& t : impl_->trainer_.graph().tensors) {
    for (size_t i = 0; i < t.size(); ++i) {
      if (std::isfinite(p[t.offset + i])) continue;
      return absl::InternalError(
          absl::StrCat("embedding: ", t.name, "[", i, "] is not finite"));
    }
  }
  return absl::OkStatus();
}

}  // namespace adrank
