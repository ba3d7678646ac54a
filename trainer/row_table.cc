// Hot path: no allocation but in BeginStep, no locks, no logging.
#include "trainer/row_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/rng.h"
#include "model/kernels/clones.h"
#include "model/model.h"

namespace adrank {
namespace {

using Optimizer = RowTableOptions::Optimizer;

constexpr size_t kLine = 16;  // floats of a cache line
constexpr float kAdagradEpsilon = 1e-8f;

ADRANK_CLONES void Adagrad(size_t n, float rate, const float* g, float* sum,
                           float* w) {
  for (size_t j = 0; j < n; ++j) {
    sum[j] += g[j] * g[j];
    w[j] -= rate * g[j] / (std::sqrt(sum[j]) + kAdagradEpsilon);
  }
}

ADRANK_CLONES void ScaleBy(size_t n, float s, float* x) {
  for (size_t j = 0; j < n; ++j) x[j] *= s;
}

// The sum of four uniform numbers (Irwin and Hall 1927) of variance 1: as good
// as normal for a beginning, and a table of millions of rows is filled in a
// second.
float NearlyNormal(uint64_t seed, uint64_t row, uint64_t d) {
  const uint64_t h = MixBits(MixBits(seed + row) + d);
  const uint32_t sum = static_cast<uint32_t>(h & 0xffff) +
                       static_cast<uint32_t>(h >> 16 & 0xffff) +
                       static_cast<uint32_t>(h >> 32 & 0xffff) +
                       static_cast<uint32_t>(h >> 48);
  // 1.7320508 = sqrt(3): a uniform number has variance 1/12.
  return (static_cast<float>(sum) * 0x1p-16f - 0x1.fffep0f) * 1.7320508f;
}

template <typename T>
void Append(const HugeArray<T>& array, std::string* out) {
  if (array.size() == 0) return;
  out->append(reinterpret_cast<const char*>(array.data()),
              array.size() * sizeof(T));
}

template <typename T>
bool Take(absl::string_view* in, HugeArray<T>* array) {
  const size_t bytes = array->size() * sizeof(T);
  if (in->size() < bytes) return false;
  if (bytes > 0) std::memcpy(array->data(), in->data(), bytes);
  in->remove_prefix(bytes);
  return true;
}

template <typename T>
void RemapArray(absl::Span<const uint32_t> source, size_t stride,
                HugeArray<T>* array) {
  if (array->size() == 0) return;
  HugeArray<T> moved(source.size() * stride);
  for (size_t r = 0; r < source.size(); ++r) {
    if (source[r] == kNoRow) continue;
    std::copy_n(&(*array)[source[r] * stride], stride, &moved[r * stride]);
  }
  *array = std::move(moved);
}

}  // namespace

RowTable::RowTable(const RowTableOptions& options, uint64_t rows)
    : options_(options),
      stride_((options.dim + (options.linear ? 1 : 0) + 3) / 4 * 4) {
  Allocate(rows);
  for (uint64_t r = 0; r < rows; ++r) Initialize(r);
}

size_t RowTable::state_stride() const {
  if (adam()) return 2 * stride_;
  return options_.optimizer == Optimizer::kAdagrad ? stride_ : 2;
}

void RowTable::Allocate(uint64_t rows) {
  rows_ = rows;
  weights_ = HugeArray<float>(rows * stride_);
  state_ = HugeArray<float>(rows * state_stride());
  settled_ = HugeArray<uint32_t>(rows);
  if (options_.average_decay > 0) average_ = HugeArray<float>(rows * stride_);
  if (options_.linear_ftrl) ftrl_ = HugeArray<FtrlSlot>(rows);
  if (options_.optimizer == Optimizer::kAdam) {
    gradient_ = HugeArray<float>(rows * stride_);
  }
  // kAdam, too: AddGradient decays the rows that are touched.
  if (options_.l2_by_frequency) touched_ = HugeArray<uint32_t>(rows);
}

void RowTable::Initialize(uint64_t r) {
  float* const w = &weights_[r * stride_];
  for (uint32_t d = 0; d < options_.dim; ++d) {
    w[d] = options_.initial_std * NearlyNormal(options_.seed, r, d);
  }
  if (!adam()) {
    std::fill_n(&state_[r * state_stride()], state_stride(),
                options_.initial_accumulator);
  }
  if (options_.average_decay > 0)
    std::copy_n(w, stride_, &average_[r * stride_]);
  settled_[r] = static_cast<uint32_t>(step());
}

void RowTable::Prefetch(uint64_t r) const {
  for (size_t j = 0; j < stride_; j += kLine) {
    __builtin_prefetch(&weights_[r * stride_ + j], 1);
  }
  for (size_t j = 0; j < state_stride(); j += kLine) {
    __builtin_prefetch(&state_[r * state_stride() + j], 1);
  }
  __builtin_prefetch(&settled_[r], 1);
}

void RowTable::BeginStep(float rate_factor, size_t batch) {
  batch_ = static_cast<float>(batch);
  rates_.push_back(
      AdamStep::Of(options_.learning_rate * rate_factor, rates_.size() + 1));
  peak_ = std::max(peak_, rates_.back().rate);
  CountKeep();
}

void RowTable::CountKeep() {
  if (options_.average_decay == 0) return;
  if (log_keep_.empty()) log_keep_.push_back(0);
  while (log_keep_.size() <= step()) {
    log_keep_.push_back(
        log_keep_.back() +
        std::log(AverageKeep(options_.average_decay, log_keep_.size())));
  }
}

float RowTable::Keep(uint64_t s) const {
  return static_cast<float>(AverageKeep(options_.average_decay, s));
}

// Weights have not moved since the step the row has reached.
void RowTable::AverageTo(uint64_t r, uint64_t to) {
  if (options_.average_decay > 0 && settled_[r] < to) {
    const auto keep =
        static_cast<float>(std::exp(log_keep_[to] - log_keep_[settled_[r]]));
    MoveAverage(stride_, keep, row(r), &average_[r * stride_]);
  }
  settled_[r] = static_cast<uint32_t>(to);
}

void RowTable::CatchUp(uint64_t r) {
  if (options_.optimizer == Optimizer::kAdamLazy) CatchUpTo(r, step() - 1);
}

void RowTable::CatchUpTo(uint64_t r, uint64_t to) {
  if (settled_[r] >= to) return;
  float* const w = &weights_[r * stride_];
  float* const m = &state_[r * 2 * stride_];
  float* const v = m + stride_;
  uint64_t s = settled_[r] + 1;
  for (; s <= to; ++s) {
    const bool moves = AdamIdle(stride_, rates_[s - 1], peak_, m, v, w);
    if (options_.average_decay > 0) {
      MoveAverage(stride_, Keep(s), w, &average_[r * stride_]);
    }
    // m falls faster than sqrt(v): once no weight would move at the highest
    // rate of all steps, none will (rates rise in warm-up, and restart).
    if (!moves) break;
  }
  if (s < to) {
    const auto left = static_cast<float>(to - s);
    ScaleBy(stride_, std::pow(kAdamBeta1, left), m);
    ScaleBy(stride_, std::pow(kAdamBeta2, left), v);
  }
  settled_[r] = static_cast<uint32_t>(std::min(s, to));
  AverageTo(r, to);
}

void RowTable::StepLinearFtrl(uint64_t r, float gradient) {
  FtrlStep(options_.ftrl, batch_ * gradient, &ftrl_[r]);
  weights_[r * stride_ + options_.dim] = FtrlWeight(options_.ftrl, ftrl_[r]);
}

// Of l2, for a row that these examples touch.
float RowTable::Share(uint64_t r, uint32_t examples) {
  if (!options_.l2_by_frequency) return 1;
  touched_[r] += examples;
  return 1.0f / static_cast<float>(touched_[r]);
}

void RowTable::Decay(uint64_t r, float share, float* gradient) const {
  const float* const w = row(r);
  const uint32_t dim = options_.dim;
  if (options_.l2 > 0) AddDecay(dim, options_.l2 * share, w, gradient);
  if (options_.linear && !options_.linear_ftrl) {
    gradient[dim] += options_.linear_l2 * share * w[dim];
  }
}

void RowTable::Step(uint64_t r, const float* gradient, uint32_t examples) {
  const AdamStep& rate = rates_.back();
  const uint32_t dim = options_.dim;
  float* const w = &weights_[r * stride_];
  float g[160];
  std::copy_n(gradient, stride_, g);
  AverageTo(r, step() - 1);
  Decay(r, Share(r, examples), g);
  if (options_.linear && options_.linear_ftrl) {
    StepLinearFtrl(r, g[dim]);
    g[dim] = 0;
  }
  const size_t n = options_.linear && options_.linear_ftrl ? dim : stride_;
  if (adam()) {
    float* const m = &state_[r * 2 * stride_];
    Adam(n, rate, 1, g, m, m + stride_, w);
  } else if (options_.optimizer == Optimizer::kAdagrad) {
    Adagrad(n, rate.rate, g, &state_[r * stride_], w);
  } else {
    float* const sums = &state_[r * 2];
    float square = 0;
    for (uint32_t d = 0; d < dim; ++d) square += g[d] * g[d];
    if (dim > 0) sums[0] += square / static_cast<float>(dim);
    const float step = rate.rate / (std::sqrt(sums[0]) + kAdagradEpsilon);
    for (uint32_t d = 0; d < dim; ++d) w[d] -= step * g[d];
    if (options_.linear && !options_.linear_ftrl) {
      Adagrad(1, rate.rate, g + dim, sums + 1, w + dim);
    }
  }
  if (options_.average_decay > 0) {
    MoveAverage(stride_, Keep(step()), w, &average_[r * stride_]);
  }
  settled_[r] = static_cast<uint32_t>(step());
}

void RowTable::AddGradient(uint64_t r, const float* gradient,
                           uint32_t examples) {
  float* const g = &gradient_[r * stride_];
  for (size_t j = 0; j < stride_; ++j) g[j] += gradient[j];
  if (options_.l2_by_frequency) Decay(r, Share(r, examples), g);
}

double RowTable::Regularize(uint64_t begin, uint64_t end) {
  double sum = 0;
  for (uint64_t r = begin; r < end; ++r) {
    float* const g = &gradient_[r * stride_];
    if (!options_.l2_by_frequency) Decay(r, 1, g);
    for (size_t j = 0; j < stride_; ++j) sum += double{g[j]} * g[j];
  }
  return sum;
}

void RowTable::StepAll(uint64_t begin, uint64_t end, float scale) {
  const AdamStep& s = rates_.back();
  const size_t n =
      options_.linear && options_.linear_ftrl ? options_.dim : stride_;
  for (uint64_t r = begin; r < end; ++r) {
    float* const g = &gradient_[r * stride_];
    float* const w = &weights_[r * stride_];
    float* const m = &state_[r * 2 * stride_];
    if (n < stride_ && g[options_.dim] != 0) {
      StepLinearFtrl(r, g[options_.dim]);
    }
    Adam(n, s, scale, g, m, m + stride_, w);
    std::fill_n(g, stride_, 0.0f);
    if (options_.average_decay > 0) {
      MoveAverage(stride_, Keep(step()), w, &average_[r * stride_]);
    }
    settled_[r] = static_cast<uint32_t>(step());
  }
}

void RowTable::Settle(uint64_t begin, uint64_t end) {
  const bool lazy = options_.optimizer == Optimizer::kAdamLazy;
  for (uint64_t r = begin; r < end; ++r) {
    // Of the step that is done too: as if the next had begun.
    if (lazy) {
      CatchUpTo(r, step());
    } else {
      AverageTo(r, step());
    }
  }
}

void RowTable::Remap(absl::Span<const uint32_t> source) {
  RemapArray(source, stride_, &weights_);
  RemapArray(source, stride_, &average_);
  RemapArray(source, state_stride(), &state_);
  RemapArray(source, 1, &ftrl_);
  RemapArray(source, 1, &settled_);
  RemapArray(source, 1, &touched_);
  if (gradient_.size() > 0) {
    gradient_ = HugeArray<float>(source.size() * stride_);
  }
  rows_ = source.size();
  for (uint64_t r = 0; r < rows_; ++r) {
    if (source[r] == kNoRow) Initialize(r);
  }
}

namespace {

struct TableHead {
  uint64_t rows, dim, optimizer, linear, average, ftrl, frequency, steps;
};

}  // namespace

void RowTable::Save(std::string* out) const {
  const TableHead head = {rows_,
                          options_.dim,
                          static_cast<uint64_t>(options_.optimizer),
                          options_.linear,
                          average_.size() > 0,
                          ftrl_.size() > 0,
                          touched_.size() > 0,
                          rates_.size()};
  out->append(reinterpret_cast<const char*>(&head), sizeof(head));
  out->append(reinterpret_cast<const char*>(rates_.data()),
              rates_.size() * sizeof(AdamStep));
  Append(weights_, out);
  Append(average_, out);
  Append(state_, out);
  Append(ftrl_, out);
  Append(settled_, out);
  Append(touched_, out);
}

absl::Status RowTable::Restore(absl::string_view* in) {
  TableHead head;
  if (in->size() < sizeof(head)) {
    return absl::DataLossError(
        "optimizer state: the table's head is cut short");
  }
  std::memcpy(&head, in->data(), sizeof(head));
  in->remove_prefix(sizeof(head));
  const TableHead mine = {head.rows,
                          options_.dim,
                          static_cast<uint64_t>(options_.optimizer),
                          options_.linear,
                          options_.average_decay > 0,
                          options_.linear_ftrl,
                          options_.l2_by_frequency,
                          head.steps};
  if (std::memcmp(&head, &mine, sizeof(head)) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "optimizer state: of a table of dim ", head.dim, ", optimizer ",
        head.optimizer, ", this one has dim ", options_.dim, ", optimizer ",
        static_cast<uint64_t>(options_.optimizer),
        " (or average, FTRL or frequencies differ)"));
  }
  const uint64_t row_bytes = (stride_ + state_stride()) * sizeof(float);
  if (head.rows > in->size() / row_bytes ||
      head.steps > in->size() / sizeof(AdamStep)) {
    return absl::DataLossError(absl::StrCat("optimizer state: ", in->size(),
                                            " bytes do not hold ", head.rows,
                                            " rows"));
  }
  // Into another table, so that an error changes nothing.
  RowTable read(options_, 0);
  read.rates_.resize(head.steps);
  if (head.steps > 0) {
    std::memcpy(read.rates_.data(), in->data(), head.steps * sizeof(AdamStep));
  }
  in->remove_prefix(head.steps * sizeof(AdamStep));
  for (const AdamStep& s : read.rates_)
    read.peak_ = std::max(read.peak_, s.rate);
  read.CountKeep();
  read.Allocate(head.rows);
  if (!Take(in, &read.weights_) || !Take(in, &read.average_) ||
      !Take(in, &read.state_) || !Take(in, &read.ftrl_) ||
      !Take(in, &read.settled_) || !Take(in, &read.touched_)) {
    return absl::DataLossError("optimizer state: the table is cut short");
  }
  for (uint64_t r = 0; r < head.rows; ++r) {
    if (read.settled_[r] > head.steps) {
      return absl::DataLossError(
          absl::StrCat("optimizer state: row ", r, " has reached step ",
                       read.settled_[r], " of ", head.steps));
    }
  }
  Swap(&read);
  return absl::OkStatus();
}

void RowTable::Swap(RowTable* other) {
  std::swap(rows_, other->rows_);
  std::swap(peak_, other->peak_);
  rates_.swap(other->rates_);
  log_keep_.swap(other->log_keep_);
  std::swap(weights_, other->weights_);
  std::swap(average_, other->average_);
  std::swap(state_, other->state_);
  std::swap(ftrl_, other->ftrl_);
  std::swap(gradient_, other->gradient_);
  std::swap(settled_, other->settled_);
  std::swap(touched_, other->touched_);
}

uint64_t RowTable::FirstNotFinite() const {
  for (uint64_t r = 0; r < rows_; ++r) {
    const float* const w = evaluated(r);
    for (size_t j = 0; j < stride_; ++j) {
      if (!std::isfinite(w[j]) || !std::isfinite(row(r)[j])) return r;
    }
  }
  return rows_;
}

uint64_t RowTable::bytes() const {
  return (weights_.size() + average_.size() + state_.size() + gradient_.size() +
          settled_.size() + touched_.size()) *
             sizeof(float) +
         ftrl_.size() * sizeof(FtrlSlot);
}

}  // namespace adrank
