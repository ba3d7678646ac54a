#include "trainer/fm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/model.h"
#include "model/model_bundle.h"
#include "trainer/huge_array.h"
#include "trainer/owned_batches.h"
#include "trainer/progress.h"
#include "trainer/sealed_state.h"

namespace adrank {
namespace {

constexpr char kMagic[] = "AXFMLR01";

FtrlScale ScaleOf(double alpha, double beta, double l1, double l2) {
  return {static_cast<float>(1 / alpha), static_cast<float>(beta),
          static_cast<float>(l1), static_cast<float>(l2)};
}

FmScale ScaleOf(const FmOptions& o) {
  FmScale s;
  const FtrlOptions& l = o.linear;
  s.linear = ScaleOf(l.alpha, l.beta, l.l1, l.l2);
  s.vector_ftrl = ScaleOf(o.lr, o.eps, o.l1, o.l2);
  s.optimizer = o.optimizer;
  s.dim = o.dim;
  s.stride = FmStride(o.optimizer, o.dim);
  s.lr = static_cast<float>(o.lr);
  s.eps = static_cast<float>(o.eps);
  s.initial_accumulator = static_cast<float>(o.initial_accumulator);
  s.l2 = static_cast<float>(o.l2);
  s.init_std = static_cast<float>(o.init_std);
  s.seed = o.seed;
  return s;
}

absl::Status CheckOptions(const FmOptions& o, uint64_t rows) {
  RETURN_IF_ERROR(CheckFtrlOptions(o.linear, rows));
  const auto bad = [](absl::string_view what, double value,
                      absl::string_view rule) {
    return absl::InvalidArgumentError(
        absl::StrCat("fm.", what, ": ", value, " is not ", rule));
  };
  if (o.dim < 4 || o.dim > kMaxFmDim || o.dim % 4 != 0) {
    return bad("dim", o.dim, "a multiple of 4 in [4, 64]");
  }
  if (!(o.lr > 0) || !std::isfinite(o.lr)) {
    return bad("lr", o.lr, "finite and > 0");
  }
  const std::pair<const char*, double> others[] = {
      {"eps", o.eps},
      {"initial_accumulator", o.initial_accumulator},
      {"l2", o.l2},
      {"l1", o.l1},
      {"init_std", o.init_std}};
  for (const auto& [name, value] : others) {
    if (!(value >= 0) || !std::isfinite(value)) {
      return bad(name, value, "finite and >= 0");
    }
  }
  const bool ftrl = o.optimizer == FmOptimizer::kFtrl;
  if (ftrl ? o.eps == 0 && o.l2 == 0
           : o.eps == 0 && o.initial_accumulator == 0) {
    return bad("eps", 0,
               ftrl ? "allowed to be 0 where l2 is 0"
                    : "allowed to be 0 where initial_accumulator is 0");
  }
  if (ftrl && o.initial_accumulator != 0) {
    return bad("initial_accumulator", o.initial_accumulator, "0 for FTRL");
  }
  if (!ftrl && o.l1 != 0) return bad("l1", o.l1, "0 where not FTRL");
  return absl::OkStatus();
}

// What one thread owns besides its rows; [max_batch] where not said.
struct alignas(64) Lane {
  // [max_batch, dim + 1] of this batch and the one before, which others may
  // still read.
  std::vector<int64_t> sums[2];
  std::vector<int64_t> logits;  // in kLogitUnit
  std::vector<double> p;
  std::vector<float> deltas;
  std::vector<float> s;  // [max_batch, dim]
  ProgressMeter meter;
};

}  // namespace

class FmLearner::Impl : public BatchWork {
 public:
  Impl(const FmOptions& options, uint64_t rows)
      : options_(options),
        scale_(ScaleOf(options)),
        kernel_(BestFmKernel()),
        ftrl_kernel_(BestFtrlKernel()),
        batches_(options.linear.threads, options.linear.max_batch),
        lanes_(batches_.threads()),
        rows_(rows),
        table_(rows * scale_.stride) {
    bias_.initial = options.linear.initial_bias;
    const size_t batch = options.linear.max_batch;
    for (Lane& lane : lanes_) {
      for (auto& sums : lane.sums) sums.resize(batch * (options.dim + 1));
      lane.logits.resize(batch);
      lane.p.resize(batch);
      lane.deltas.resize(batch);
      lane.s.resize(batch * options.dim);
    }
  }

  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order);
  absl::Status Predict(const ExampleBlock& block, absl::Span<float> logits);
  absl::Status CheckRows(const ExampleBlock& block) const;
  double Bias() const {
    return bias_.Weight(options_.linear.alpha, options_.linear.beta);
  }
  const float* State(size_t row) const {
    return table_.data() + row * scale_.stride;
  }
  float Linear(size_t row) const {
    return FtrlWeight(scale_.linear, {State(row)[0], State(row)[1]});
  }
  size_t used_bytes() const {
    return FmUsed(options_.optimizer, options_.dim) * sizeof(float);
  }

  void Sum(uint32_t t, int parity, const OwnedEntries& share,
           const ExampleBatch& batch) override;
  void Learn(uint32_t t, uint32_t threads, int parity,
             const OwnedEntries& share, const ExampleBatch& batch) override;
  void Prefetch(uint32_t row) const override {
    for (size_t i = 0; i < scale_.stride; i += 16) {
      __builtin_prefetch(State(row) + i, 1);
    }
  }

  const FmOptions options_;
  const FmScale scale_;
  const FmKernel& kernel_;
  const FtrlKernel& ftrl_kernel_;
  OwnedBatches batches_;
  std::vector<Lane> lanes_;
  uint64_t rows_;
  HugeArray<float> table_;  // [rows, stride]
  FtrlBias bias_;
  uint64_t seen_ = 0;

 private:
  void Totals(uint32_t threads, int parity, size_t count, Lane* lane) const;
  float PredictOne(const ExampleBlock& block, size_t i, size_t until,
                   double bias) const;
};

absl::Status FmLearner::Impl::CheckRows(const ExampleBlock& block) const {
  if (block.row_limit() <= rows_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("examples name row ", block.row_limit() - 1,
                   ", the learner has ", rows_, " rows"));
}

absl::Status FmLearner::Impl::Update(const ExampleBlock& block,
                                     absl::Span<const uint32_t> order) {
  RETURN_IF_ERROR(CheckRows(block));
  RETURN_IF_ERROR(batches_.Update(block, order, seen_, this));
  seen_ += order.empty() ? block.examples() : order.size();
  return absl::OkStatus();
}

void FmLearner::Impl::Sum(uint32_t t, int parity, const OwnedEntries& share,
                          const ExampleBatch& batch) {
  int64_t* sums = lanes_[t].sums[parity].data();
  kernel_.sums(table_.data(), scale_, share.rows, share.values,
               share.offsets.data(), batch.count, sums);
  if (t != 0) return;  // the owner of the bias
  const size_t width = options_.dim + 1;
  const int64_t twice = 2 * LogitUnits(Bias());
  for (size_t i = 0; i < batch.count; ++i) sums[(i + 1) * width - 1] += twice;
}

// s and logits of the batch from the sums of all threads.
void FmLearner::Impl::Totals(uint32_t threads, int parity, size_t count,
                             Lane* lane) const {
  const uint32_t dim = options_.dim;
  for (size_t i = 0; i < count; ++i) {
    int64_t total[kMaxFmDim + 1] = {};
    for (uint32_t u = 0; u < threads; ++u) {
      const int64_t* sums = lanes_[u].sums[parity].data() + i * (dim + 1);
      for (uint32_t j = 0; j <= dim; ++j) total[j] += sums[j];
    }
    float* s = lane->s.data() + i * dim;
    double fold[4] = {};  // four chains of additions are four times as fast
    for (uint32_t j = 0; j < dim; j += 4) {
      for (uint32_t c = 0; c < 4; ++c) {
        const double x = static_cast<double>(total[j + c]) * kLogitUnit;
        s[j + c] = static_cast<float>(x);
        fold[c] += x * x;
      }
    }
    const double square = (fold[0] + fold[2]) + (fold[1] + fold[3]);
    lane->logits[i] = LogitUnits(
        0.5 * (static_cast<double>(total[dim]) * kLogitUnit + square));
  }
}

void FmLearner::Impl::Learn(uint32_t t, uint32_t threads, int parity,
                            const OwnedEntries& share,
                            const ExampleBatch& batch) {
  Lane& lane = lanes_[t];
  const size_t count = batch.count;
  const ExampleBlock& block = *batch.block;
  Totals(threads, parity, count, &lane);
  ftrl_kernel_.sigmoid(lane.logits.data(), count, lane.p.data());
  for (size_t i = 0; i < count; ++i) {
    const size_t e = batch.example(i);
    const double error = lane.p[i] - (block.label(e) ? 1.0 : 0.0);
    lane.deltas[i] = static_cast<float>(error) * block.weight(e);
  }
  kernel_.update(table_.data(), scale_, share.rows, share.values,
                 share.offsets.data(), lane.deltas.data(), lane.s.data(), count,
                 block.distinct());
  if (t == 0) {
    for (size_t i = 0; i < count; ++i) {
      bias_.Step(options_.linear.alpha, options_.linear.beta, lane.deltas[i]);
    }
  }
  // This thread's part of the examples is noted in its meter.
  for (size_t i = count * t / threads; i < count * (t + 1) / threads; ++i) {
    const size_t e = batch.example(i);
    lane.meter.Add(static_cast<double>(lane.logits[i]) * kLogitUnit, lane.p[i],
                   block.label(e), block.weight(e));
  }
}

float FmLearner::Impl::PredictOne(const ExampleBlock& block, size_t i,
                                  size_t until, double bias) const {
  constexpr size_t kAhead = 32;
  const uint32_t dim = options_.dim;
  double s[kMaxFmDim] = {}, square[kMaxFmDim] = {};
  double logit = bias;
  for (size_t e = block.begin(i); e < block.begin(i + 1); ++e) {
    if (e + kAhead < until) Prefetch(block.rows()[e + kAhead]);
    const float* state = State(block.rows()[e]);
    const double x = block.values() == nullptr ? 1.0 : block.values()[e];
    logit += Linear(block.rows()[e]) * x;
    for (uint32_t j = 0; j < dim; ++j) {
      const double vx = FmVector(scale_, state, j) * x;
      s[j] += vx;
      square[j] += vx * vx;
    }
  }
  double pairs = 0;
  for (uint32_t j = 0; j < dim; ++j) pairs += s[j] * s[j] - square[j];
  return static_cast<float>(logit + 0.5 * pairs);
}

absl::Status FmLearner::Impl::Predict(const ExampleBlock& block,
                                      absl::Span<float> logits) {
  CHECK_EQ(logits.size(), block.examples());
  RETURN_IF_ERROR(CheckRows(block));
  const double bias = static_cast<float>(Bias());
  batches_.team().Run([&](uint32_t t) {
    const size_t begin = block.examples() * t / batches_.threads();
    const size_t end = block.examples() * (t + 1) / batches_.threads();
    for (size_t i = begin; i < end; ++i) {
      logits[i] = PredictOne(block, i, block.begin(end), bias);
    }
  });
  return absl::OkStatus();
}

FmLearner::FmLearner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FmLearner::~FmLearner() = default;

absl::StatusOr<std::unique_ptr<FmLearner>> FmLearner::Create(
    const FmOptions& options, uint64_t rows) {
  RETURN_IF_ERROR(CheckOptions(options, rows));
  return std::unique_ptr<FmLearner>(
      new FmLearner(std::make_unique<Impl>(options, rows)));
}

absl::Status FmLearner::Update(const ExampleBlock& block,
                               absl::Span<const uint32_t> order) {
  return impl_->Update(block, order);
}

absl::Status FmLearner::Predict(const ExampleBlock& block,
                                absl::Span<float> logits) const {
  return impl_->Predict(block, logits);
}

v1::Metrics FmLearner::Progress() const { return Meter().Metrics(); }

void FmLearner::ResetProgress() { SetMeter({}); }

ProgressMeter FmLearner::Meter() const {
  ProgressMeter all;
  for (const Lane& lane : impl_->lanes_) all.Merge(lane.meter);
  return all;
}

void FmLearner::SetMeter(const ProgressMeter& meter) {
  for (Lane& lane : impl_->lanes_) lane.meter.Reset();
  impl_->lanes_[0].meter = meter;
}

uint64_t FmLearner::rows() const { return impl_->rows_; }
uint64_t FmLearner::examples() const { return impl_->seen_; }

namespace {

// Head of the state's grammar.
struct StateHead {
  char magic[8];
  uint64_t rows;
  uint64_t examples;
  double z;
  double n;
  double initial;
  uint32_t dim;
  uint32_t optimizer;
};
static_assert(sizeof(StateHead) == 56);

}  // namespace

std::string FmLearner::Save() const {
  StateHead head = {{},
                    rows(),
                    examples(),
                    impl_->bias_.z,
                    impl_->bias_.n,
                    impl_->bias_.initial,
                    impl_->options_.dim,
                    static_cast<uint32_t>(impl_->options_.optimizer)};
  memcpy(head.magic, kMagic, sizeof(head.magic));
  const size_t bytes = impl_->used_bytes();
  std::string state;
  state.reserve(sizeof(head) + rows() * bytes + 8);
  state.append(reinterpret_cast<const char*>(&head), sizeof(head));
  for (uint64_t r = 0; r < rows(); ++r) {
    state.append(reinterpret_cast<const char*>(impl_->State(r)), bytes);
  }
  SealState(&state);
  return state;
}

absl::Status FmLearner::Restore(absl::string_view state) {
  ASSIGN_OR_RETURN(const absl::string_view body,
                   OpenState(state, kMagic, sizeof(StateHead), "an FM"));
  StateHead head;
  memcpy(&head, state.data(), sizeof(head));
  const uint32_t optimizer = static_cast<uint32_t>(impl_->options_.optimizer);
  if (head.dim != impl_->options_.dim || head.optimizer != optimizer) {
    return absl::FailedPreconditionError(
        absl::StrCat("optimizer state: of dim ", head.dim, " and optimizer ",
                     head.optimizer, ", this learner has dim ",
                     impl_->options_.dim, " and optimizer ", optimizer));
  }
  const size_t bytes = impl_->used_bytes();
  if (body.size() % bytes != 0 || body.size() / bytes != head.rows) {
    return absl::DataLossError(absl::StrCat("optimizer state: ", body.size(),
                                            " bytes do not hold ", head.rows,
                                            " rows"));
  }
  const uint32_t stride = impl_->scale_.stride;
  HugeArray<float> table(head.rows * stride);
  for (uint64_t r = 0; r < head.rows; ++r) {
    memcpy(table.data() + r * stride, body.data() + r * bytes, bytes);
  }
  impl_->table_ = std::move(table);
  impl_->rows_ = head.rows;
  impl_->bias_ = {head.z, head.n, head.initial};
  impl_->seen_ = head.examples;
  return absl::OkStatus();
}

absl::Status FmLearner::CheckFinite() const {
  if (!std::isfinite(impl_->Bias())) {
    return absl::InternalError("fm: the bias is not finite");
  }
  // The accumulators too: one that is infinite has stopped its row.
  const size_t floats = impl_->used_bytes() / sizeof(float);
  constexpr size_t kHead = sizeof(FmHead) / sizeof(float);
  for (uint64_t r = 0; r < rows(); ++r) {
    const float* state = impl_->State(r);
    bool finite = std::isfinite(impl_->Linear(r));
    for (size_t i = 0; i < floats; ++i) {
      if (i != kHead - 1) finite = finite && std::isfinite(state[i]);
    }
    for (uint32_t j = 0; j < impl_->options_.dim; ++j) {
      finite = finite && std::isfinite(FmVector(impl_->scale_, state, j));
    }
    if (!finite) {
      return absl::InternalError(
          absl::StrCat("fm: the weights of row ", r, " are not finite"));
    }
  }
  return absl::OkStatus();
}

absl::Status FmLearner::Remap(absl::Span<const uint32_t> source) {
  for (const uint32_t s : source) {
    if (s != kNoRow && s >= rows()) {
      return absl::InvalidArgumentError(
          absl::StrCat("remap: row ", s, " of a learner of ", rows(), " rows"));
    }
  }
  const uint32_t stride = impl_->scale_.stride;
  HugeArray<float> table(source.size() * stride);
  for (size_t r = 0; r < source.size(); ++r) {
    if (source[r] == kNoRow) continue;
    memcpy(table.data() + r * stride, impl_->State(source[r]),
           stride * sizeof(float));
  }
  impl_->table_ = std::move(table);
  impl_->rows_ = source.size();
  return absl::OkStatus();
}

absl::Status FmLearner::Grow(uint64_t rows) {
  CHECK_GE(rows, this->rows());
  RETURN_IF_ERROR(CheckOptions(impl_->options_, rows));
  const size_t stride = impl_->scale_.stride;
  HugeArray<float> table(rows * stride);
  if (this->rows() > 0) {
    memcpy(table.data(), impl_->table_.data(),
           this->rows() * stride * sizeof(float));
  }
  impl_->table_ = std::move(table);
  impl_->rows_ = rows;
  return absl::OkStatus();
}

void FmLearner::FreezeInto(BundleContents* contents) const {
  v1::ModelGraph* const graph = contents->manifest.mutable_graph();
  graph->set_dim(impl_->options_.dim);
  graph->set_linear(true);
  graph->set_pairwise(v1::ModelGraph::FM);
  contents->embedding = Freeze();
}

EmbeddingWeights FmLearner::Freeze() const {
  const uint32_t dim = impl_->options_.dim;
  EmbeddingWeights frozen;
  frozen.dim = dim;
  frozen.parameters = {static_cast<float>(impl_->Bias())};
  frozen.linear.resize(rows());
  frozen.vectors.resize(rows() * dim);
  for (uint64_t r = 0; r < rows(); ++r) {
    frozen.linear[r] = impl_->Linear(r);
    for (uint32_t j = 0; j < dim; ++j) {
      frozen.vectors[r * dim + j] = FmVector(impl_->scale_, impl_->State(r), j);
    }
  }
  return frozen;
}

}  // namespace adrank
