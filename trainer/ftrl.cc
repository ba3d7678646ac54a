#include "trainer/ftrl.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/model.h"
#include "model/model_bundle.h"
#include "trainer/ftrl_kernel.h"
#include "trainer/huge_array.h"
#include "trainer/owned_batches.h"
#include "trainer/progress.h"
#include "trainer/sealed_state.h"

namespace adrank {
namespace {

constexpr char kMagic[] = "AXFTRL01";

// What one thread owns besides its coordinates.
struct alignas(64) Lane {
  // Sums of this batch and the one before, which others may still read.
  std::vector<int64_t> sums[2];
  std::vector<int64_t> totals;
  std::vector<double> p;
  std::vector<float> deltas;
  ProgressMeter meter;
};

}  // namespace

absl::Status CheckFtrlOptions(const FtrlOptions& o, uint64_t rows) {
  const auto bad = [](absl::string_view what, double value,
                      absl::string_view rule) {
    return absl::InvalidArgumentError(
        absl::StrCat("logistic.", what, ": ", value, " is not ", rule));
  };
  if (!(o.alpha > 0) || !std::isfinite(o.alpha)) {
    return bad("alpha", o.alpha, "finite and > 0");
  }
  if (!(o.beta >= 0) || !std::isfinite(o.beta)) {
    return bad("beta", o.beta, "finite and >= 0");
  }
  if (!(o.l1 >= 0) || !std::isfinite(o.l1)) {
    return bad("l1", o.l1, "finite and >= 0");
  }
  if (!(o.l2 >= 0) || !std::isfinite(o.l2)) {
    return bad("l2", o.l2, "finite and >= 0");
  }
  if (o.beta == 0 && o.l2 == 0) {
    return bad("beta", 0, "allowed to be 0 where l2 is 0");
  }
  if (o.max_batch < 1 || o.max_batch > 4096) {
    return bad("max_batch", o.max_batch, "in [1, 4096]");
  }
  if (!std::isfinite(o.initial_bias)) {
    return bad("initial_bias", o.initial_bias, "finite");
  }
  if (rows >= kNoRow) {
    return absl::InvalidArgumentError(
        absl::StrCat("logistic: ", rows, " rows, at most ", kNoRow - 1));
  }
  return absl::OkStatus();
}

FtrlOptions FtrlOptionsFrom(const v1::LogisticConfig& config,
                            uint32_t threads) {
  FtrlOptions o;
  if (config.alpha() != 0) o.alpha = config.alpha();
  if (config.beta() != 0) o.beta = config.beta();
  o.l1 = config.l1();
  o.l2 = config.l2();
  o.threads = threads;
  return o;
}

class FtrlLearner::Impl : public BatchWork {
 public:
  Impl(const FtrlOptions& options, uint64_t rows)
      : options_(options),
        scale_{static_cast<float>(1 / options.alpha),
               static_cast<float>(options.beta), static_cast<float>(options.l1),
               static_cast<float>(options.l2)},
        kernel_(BestFtrlKernel()),
        batches_(options.threads, options.max_batch),
        lanes_(batches_.threads()),
        table_(rows) {
    bias_.initial = options.initial_bias;
    for (Lane& lane : lanes_) {
      for (auto& sums : lane.sums) sums.resize(options.max_batch);
      lane.totals.resize(options.max_batch);
      lane.p.resize(options.max_batch);
      lane.deltas.resize(options.max_batch);
    }
  }

  absl::Status Update(const ExampleBlock& block,
                      absl::Span<const uint32_t> order);
  absl::Status Predict(const ExampleBlock& block, absl::Span<float> logits);
  absl::Status CheckRows(const ExampleBlock& block) const;

  void Sum(uint32_t t, int parity, const OwnedEntries& share,
           const ExampleBatch& batch) override;
  void Learn(uint32_t t, uint32_t threads, int parity,
             const OwnedEntries& share, const ExampleBatch& batch) override;
  void Prefetch(uint32_t row) const override {
    __builtin_prefetch(&table_[row], 1);
  }

  const FtrlOptions options_;
  const FtrlScale scale_;
  const FtrlKernel& kernel_;
  OwnedBatches batches_;
  std::vector<Lane> lanes_;
  HugeArray<FtrlSlot> table_;
  FtrlBias bias_;
  uint64_t seen_ = 0;
};

absl::Status FtrlLearner::Impl::CheckRows(const ExampleBlock& block) const {
  if (block.row_limit() <= table_.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("examples name row ", block.row_limit() - 1,
                   ", the learner has ", table_.size(), " rows"));
}

absl::Status FtrlLearner::Impl::Update(const ExampleBlock& block,
                                       absl::Span<const uint32_t> order) {
  RETURN_IF_ERROR(CheckRows(block));
  RETURN_IF_ERROR(batches_.Update(block, order, seen_, this));
  seen_ += order.empty() ? block.examples() : order.size();
  return absl::OkStatus();
}

void FtrlLearner::Impl::Sum(uint32_t t, int parity, const OwnedEntries& share,
                            const ExampleBatch& batch) {
  int64_t* sums = lanes_[t].sums[parity].data();
  kernel_.logits(table_.data(), scale_, share.rows, share.values,
                 share.offsets.data(), batch.count, sums);
  if (t != 0) return;  // the owner of the bias
  const int64_t units = LogitUnits(bias_.Weight(options_.alpha, options_.beta));
  for (size_t i = 0; i < batch.count; ++i) sums[i] += units;
}

void FtrlLearner::Impl::Learn(uint32_t t, uint32_t threads, int parity,
                              const OwnedEntries& share,
                              const ExampleBatch& batch) {
  Lane& lane = lanes_[t];
  const size_t count = batch.count;
  const ExampleBlock& block = *batch.block;
  for (uint32_t u = 0; u < threads; ++u) {
    const int64_t* sums = lanes_[u].sums[parity].data();
    for (size_t i = 0; i < count; ++i) {
      lane.totals[i] = u == 0 ? sums[i] : lane.totals[i] + sums[i];
    }
  }
  kernel_.sigmoid(lane.totals.data(), count, lane.p.data());
  for (size_t i = 0; i < count; ++i) {
    const size_t e = batch.example(i);
    const double error = lane.p[i] - (block.label(e) ? 1.0 : 0.0);
    lane.deltas[i] = static_cast<float>(error) * block.weight(e);
  }
  kernel_.update(table_.data(), scale_, share.rows, share.values,
                 share.offsets.data(), lane.deltas.data(), count,
                 block.distinct());
  if (t == 0) {
    for (size_t i = 0; i < count; ++i) {
      bias_.Step(options_.alpha, options_.beta, lane.deltas[i]);
    }
  }
  // This thread's part of the examples is noted in its meter.
  for (size_t i = count * t / threads; i < count * (t + 1) / threads; ++i) {
    const size_t e = batch.example(i);
    lane.meter.Add(static_cast<double>(lane.totals[i]) * kLogitUnit, lane.p[i],
                   block.label(e), block.weight(e));
  }
}

absl::Status FtrlLearner::Impl::Predict(const ExampleBlock& block,
                                        absl::Span<float> logits) {
  CHECK_EQ(logits.size(), block.examples());
  RETURN_IF_ERROR(CheckRows(block));
  const double bias =
      static_cast<float>(bias_.Weight(options_.alpha, options_.beta));
  batches_.team().Run([&](uint32_t t) {
    const size_t begin = block.examples() * t / batches_.threads();
    const size_t end = block.examples() * (t + 1) / batches_.threads();
    const size_t last = block.begin(end);
    for (size_t i = begin; i < end; ++i) {
      double sum = 0;
      for (size_t e = block.begin(i); e < block.begin(i + 1); ++e) {
        if (e + 64 < last) __builtin_prefetch(&table_[block.rows()[e + 64]]);
        const double w = FtrlWeight(scale_, table_[block.rows()[e]]);
        sum += block.values() == nullptr ? w : w * block.values()[e];
      }
      logits[i] = static_cast<float>(bias + sum);
    }
  });
  return absl::OkStatus();
}

FtrlLearner::FtrlLearner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FtrlLearner::~FtrlLearner() = default;

absl::StatusOr<std::unique_ptr<FtrlLearner>> FtrlLearner::Create(
    const FtrlOptions& options, uint64_t rows) {
  RETURN_IF_ERROR(CheckFtrlOptions(options, rows));
  return std::unique_ptr<FtrlLearner>(
      new FtrlLearner(std::make_unique<Impl>(options, rows)));
}

absl::Status FtrlLearner::Update(const ExampleBlock& block,
                                 absl::Span<const uint32_t> order) {
  return impl_->Update(block, order);
}

absl::Status FtrlLearner::Predict(const ExampleBlock& block,
                                  absl::Span<float> logits) const {
  return impl_->Predict(block, logits);
}

v1::Metrics FtrlLearner::Progress() const { return Meter().Metrics(); }

void FtrlLearner::ResetProgress() { SetMeter({}); }

ProgressMeter FtrlLearner::Meter() const {
  ProgressMeter all;
  for (const Lane& lane : impl_->lanes_) all.Merge(lane.meter);
  return all;
}

void FtrlLearner::SetMeter(const ProgressMeter& meter) {
  for (Lane& lane : impl_->lanes_) lane.meter.Reset();
  impl_->lanes_[0].meter = meter;
}

uint64_t FtrlLearner::rows() const { return impl_->table_.size(); }
uint64_t FtrlLearner::examples() const { return impl_->seen_; }

namespace {

// Head of the state's grammar.
struct StateHead {
  char magic[8];
  uint64_t rows;
  uint64_t examples;
  double z;
  double n;
  double initial;
};
static_assert(sizeof(StateHead) == 48);

}  // namespace

std::string FtrlLearner::Save() const {
  StateHead head = {{},
                    rows(),
                    examples(),
                    impl_->bias_.z,
                    impl_->bias_.n,
                    impl_->bias_.initial};
  memcpy(head.magic, kMagic, sizeof(head.magic));
  const uint64_t table_bytes = rows() * sizeof(FtrlSlot);
  std::string state;
  state.reserve(sizeof(head) + table_bytes + 8);
  state.append(reinterpret_cast<const char*>(&head), sizeof(head));
  if (table_bytes > 0) {
    state.append(reinterpret_cast<const char*>(impl_->table_.data()),
                 table_bytes);
  }
  SealState(&state);
  return state;
}

absl::Status FtrlLearner::Restore(absl::string_view state) {
  ASSIGN_OR_RETURN(const absl::string_view body,
                   OpenState(state, kMagic, sizeof(StateHead), "an FTRL"));
  StateHead head;
  memcpy(&head, state.data(), sizeof(head));
  if (body.size() % sizeof(FtrlSlot) != 0 ||
      body.size() / sizeof(FtrlSlot) != head.rows) {
    return absl::DataLossError(absl::StrCat("optimizer state: ", body.size(),
                                            " bytes do not hold ", head.rows,
                                            " rows"));
  }
  HugeArray<FtrlSlot> table(head.rows);
  if (!body.empty()) memcpy(table.data(), body.data(), body.size());
  impl_->table_ = std::move(table);
  impl_->bias_ = {head.z, head.n, head.initial};
  impl_->seen_ = head.examples;
  return absl::OkStatus();
}

absl::Status FtrlLearner::CheckFinite() const {
  const double bias =
      impl_->bias_.Weight(impl_->options_.alpha, impl_->options_.beta);
  if (!std::isfinite(bias)) {
    return absl::InternalError("logistic: the bias is not finite");
  }
  for (uint64_t r = 0; r < rows(); ++r) {
    const FtrlSlot& slot = impl_->table_[r];
    if (!std::isfinite(slot.z) || !std::isfinite(slot.n) ||
        !std::isfinite(FtrlWeight(impl_->scale_, slot))) {
      return absl::InternalError(
          absl::StrCat("logistic: the weight of row ", r, " is not finite"));
    }
  }
  return absl::OkStatus();
}

absl::Status FtrlLearner::Remap(absl::Span<const uint32_t> source) {
  for (const uint32_t s : source) {
    if (s != kNoRow && s >= rows()) {
      return absl::InvalidArgumentError(
          absl::StrCat("remap: row ", s, " of a learner of ", rows(), " rows"));
    }
  }
  HugeArray<FtrlSlot> table(source.size());
  for (size_t r = 0; r < source.size(); ++r) {
    if (source[r] != kNoRow) table[r] = impl_->table_[source[r]];
  }
  impl_->table_ = std::move(table);
  return absl::OkStatus();
}

absl::Status FtrlLearner::Grow(uint64_t rows) {
  CHECK_GE(rows, this->rows());
  RETURN_IF_ERROR(CheckFtrlOptions(impl_->options_, rows));
  HugeArray<FtrlSlot> table(rows);
  if (this->rows() > 0) {
    memcpy(table.data(), impl_->table_.data(), this->rows() * sizeof(FtrlSlot));
  }
  impl_->table_ = std::move(table);
  return absl::OkStatus();
}

void FtrlLearner::FreezeInto(BundleContents* contents) const {
  FrozenLogistic frozen = Freeze();
  contents->weights = std::move(frozen.weights);
  contents->bias = frozen.bias;
  contents->variances = std::move(frozen.variances);
  contents->prior_variance = frozen.prior_variance;
}

namespace {

void FreezeVariances(const HugeArray<FtrlSlot>& table, FrozenLogistic* frozen) {
  double squares = 0, seen = 0;
  for (uint64_t r = 0; r < table.size(); ++r) {
    if (table[r].n < 1) continue;
    const double w = frozen->weights[r];
    squares += w * w;
    seen += 1;
  }
  if (seen > 0) {
    frozen->prior_variance =
        static_cast<float>(std::clamp(squares / seen, 0.01, 100.0));
  }
  const float precision = 1 / frozen->prior_variance;
  frozen->variances.resize(table.size());
  for (uint64_t r = 0; r < table.size(); ++r) {
    frozen->variances[r] = 1 / (precision + table[r].n);
  }
}

}  // namespace

FrozenLogistic FtrlLearner::Freeze() const {
  FrozenLogistic frozen;
  frozen.bias = static_cast<float>(
      impl_->bias_.Weight(impl_->options_.alpha, impl_->options_.beta));
  frozen.weights.resize(rows());
  for (uint64_t r = 0; r < rows(); ++r) {
    frozen.weights[r] = FtrlWeight(impl_->scale_, impl_->table_[r]);
    frozen.nonzero += frozen.weights[r] != 0 ? 1 : 0;
  }
  FreezeVariances(impl_->table_, &frozen);
  return frozen;
}

}  // namespace adrank
