#include "trainer/ftrl.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/model.h"
#include "model/model_bundle.h"
#include "trainer/ftrl_kernel.h"
#include "trainer/huge_array.h"
#include "trainer/progress.h"
#include "trainer/thread_team.h"

namespace adrank {
namespace {

// Below this batch the exchange costs more than a second thread saves.
constexpr size_t kMinParallelBatch = 32;
constexpr uint32_t kMaxThreads = 64;
// Looks at another thread's counter before it sleeps: some 50 us; none where
// threads share cores.
constexpr int kSpins = 2000;
constexpr char kMagic[] = "AXFTRL01";

uint64_t IntegerSqrt(uint64_t t) {
  uint64_t r = static_cast<uint64_t>(std::sqrt(static_cast<double>(t)));
  while (r * r > t) --r;
  while ((r + 1) * (r + 1) <= t) ++r;
  return r;
}

// The bias: a coordinate of value 1 in double without l1 and l2, measured from
// its initial value.
struct Bias {
  double z = 0;
  double n = 0;
  double initial = 0;

  double Weight(double alpha, double beta) const {
    return z == 0 ? initial : initial - z * alpha / (beta + std::sqrt(n));
  }
  void Step(double alpha, double beta, double g) {
    const double next = n + g * g;
    const double sigma = (std::sqrt(next) - std::sqrt(n)) / alpha;
    z += g - sigma * (Weight(alpha, beta) - initial);
    n = next;
  }
};

// Whether the team or one thread alone is faster, by measuring: the exchange
// per batch makes the team as slow as its slowest thread, and on a machine busy
// with other work that can be slower than one alone (measured: half). What is
// learnt does not depend on the choice.
class Pace {
 public:
  bool UseTeam() const {
    const bool faster = seconds_[1] <= seconds_[0] || seconds_[0] == 0;
    return faster != (turn_ % kTrial == kTrial / 8);
  }
  void Note(bool team, double seconds_per_example) {
    double& average = seconds_[team];
    average = average == 0 ? seconds_per_example
                           : 0.75 * average + 0.25 * seconds_per_example;
    ++turn_;
  }

 private:
  // One block in so many tries the other way.
  static constexpr uint64_t kTrial = 32;
  double seconds_[2] = {0, 0};  // an example: alone, team
  uint64_t turn_ = 0;
};

absl::Status CheckOptions(const FtrlOptions& o, uint64_t rows) {
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

// A thread's share of a mini-batch: the entries of its own coordinates.
struct Share {
  const uint32_t* rows = nullptr;
  const float* values = nullptr;
  std::vector<uint32_t> offsets;  // [count + 1]
  std::vector<uint32_t> own_rows;
  std::vector<float> own_values;
};

// What one thread owns besides its coordinates.
struct alignas(64) Lane {
  Share shares[2];  // of this batch and the next
  // Sums of this batch and the one before, which others may still read.
  std::vector<int64_t> sums[2];
  std::vector<int64_t> totals;
  std::vector<double> p;
  std::vector<float> deltas;
  ProgressMeter meter;
  // Batches of this job whose sums are readable.
  alignas(64) std::atomic<uint64_t> published{0};
};

void WaitFor(std::atomic<uint64_t>& counter, uint64_t value, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (counter.load(std::memory_order_acquire) >= value) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  uint64_t now = counter.load(std::memory_order_acquire);
  while (now < value) {
    counter.wait(now, std::memory_order_acquire);
    now = counter.load(std::memory_order_acquire);
  }
}

}  // namespace

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

class FtrlLearner::Impl {
 public:
  Impl(const FtrlOptions& options, uint64_t rows)
      : options_(options),
        scale_{static_cast<float>(1 / options.alpha),
               static_cast<float>(options.beta), static_cast<float>(options.l1),
               static_cast<float>(options.l2)},
        kernel_(BestFtrlKernel()),
        team_(Threads(options.threads)),
        lanes_(team_.size()),
        spins_(team_.size() <= std::thread::hardware_concurrency() ? kSpins
                                                                   : 0),
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

  const FtrlOptions options_;
  const FtrlScale scale_;
  const FtrlKernel& kernel_;
  ThreadTeam team_;
  std::vector<Lane> lanes_;
  const int spins_;
  HugeArray<FtrlSlot> table_;
  Bias bias_;
  uint64_t seen_ = 0;

 private:
  // Examples [begin, end) of a block in some order, learnt by `threads`.
  struct Job {
    const ExampleBlock& block;
    absl::Span<const uint32_t> order;
    size_t begin;
    size_t end;
    uint32_t threads;
    uint64_t seen;  // examples before the block's first

    size_t example(size_t i) const { return order.empty() ? i : order[i]; }
  };

  Pace pace_;

  static uint32_t Threads(uint32_t threads) {
    if (threads == 0) threads = std::thread::hardware_concurrency();
    return std::clamp<uint32_t>(threads, 1, kMaxThreads);
  }
  size_t BatchAfter(uint64_t seen) const {
    return std::clamp<uint64_t>(IntegerSqrt(seen) / 4, 1, options_.max_batch);
  }
  size_t BatchAt(const Job& job, size_t i) const {
    return std::min(BatchAfter(job.seen + i), job.end - i);
  }
  void Work(const Job& job, uint32_t t);
  size_t Pick(const Job& job, uint32_t t, size_t begin, size_t n,
              uint32_t* out_rows, float* out_values) const;
  void Prepare(const Job& job, uint32_t t, size_t first, size_t count,
               Share* share) const;
  void Totals(const Job& job, uint64_t batch, size_t count, Lane* lane);
  void Judge(const Job& job, uint32_t t, size_t first, size_t count,
             Lane* lane);
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
  for (const uint32_t i : order) {
    if (i >= block.examples()) {
      return absl::InvalidArgumentError(
          absl::StrCat("order names example ", i, " of ", block.examples()));
    }
  }
  const size_t count = order.empty() ? block.examples() : order.size();
  // Batches grow, so that the small ones come first: those are for one thread.
  size_t split = 0;
  if (team_.size() == 1) split = count;
  while (split < count && BatchAfter(seen_ + split) < kMinParallelBatch) {
    split += std::min(BatchAfter(seen_ + split), count - split);
  }
  if (split > 0) Work({block, order, 0, split, 1, seen_}, 0);
  if (split < count) {
    const bool together = pace_.UseTeam();
    const Job job = {block, order, split, count, together ? team_.size() : 1,
                     seen_};
    const auto begin = std::chrono::steady_clock::now();
    if (together) {
      for (Lane& lane : lanes_) lane.published.store(0);
      team_.Run([&](uint32_t t) { Work(job, t); });
    } else {
      Work(job, 0);
    }
    const std::chrono::duration<double> spent =
        std::chrono::steady_clock::now() - begin;
    pace_.Note(together, spent.count() / static_cast<double>(count - split));
  }
  seen_ += count;
  return absl::OkStatus();
}

// Copies those of the block's n entries from `begin` on that thread t owns;
// returns how many.
size_t FtrlLearner::Impl::Pick(const Job& job, uint32_t t, size_t begin,
                               size_t n, uint32_t* out_rows,
                               float* out_values) const {
  const uint32_t* rows = job.block.rows() + begin;
  const float* values =
      job.block.values() == nullptr ? nullptr : job.block.values() + begin;
  if (job.threads == 1) {
    std::copy_n(rows, n, out_rows);
    if (values != nullptr) std::copy_n(values, n, out_values);
    return n;
  }
  const uint64_t low = (uint64_t{t} << 32) / job.threads;
  const uint64_t high = (uint64_t{t + 1} << 32) / job.threads;
  return kernel_.pick(rows, values, n, static_cast<uint32_t>(low),
                      static_cast<uint32_t>(high - low), out_rows, out_values);
}

// The entries of examples [first, first + count) that thread t owns.
void FtrlLearner::Impl::Prepare(const Job& job, uint32_t t, size_t first,
                                size_t count, Share* share) const {
  const ExampleBlock& block = job.block;
  share->offsets.resize(count + 1);
  share->offsets[0] = 0;
  if (job.threads == 1 && job.order.empty()) {
    const size_t begin = block.begin(first);
    share->rows = block.rows() + begin;
    share->values =
        block.values() == nullptr ? nullptr : block.values() + begin;
    for (size_t i = 1; i <= count; ++i) {
      share->offsets[i] = static_cast<uint32_t>(block.begin(first + i) - begin);
    }
  } else {
    size_t room = 16;
    for (size_t i = 0; i < count; ++i) {
      const size_t e = job.example(first + i);
      room += block.begin(e + 1) - block.begin(e);
    }
    if (share->own_rows.size() < room) share->own_rows.resize(room);
    if (block.values() != nullptr && share->own_values.size() < room) {
      share->own_values.resize(room);
    }
    size_t size = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t e = job.example(first + i);
      const size_t begin = block.begin(e);
      size +=
          Pick(job, t, begin, block.begin(e + 1) - begin,
               share->own_rows.data() + size, share->own_values.data() + size);
      share->offsets[i + 1] = static_cast<uint32_t>(size);
    }
    share->rows = share->own_rows.data();
    share->values =
        block.values() == nullptr ? nullptr : share->own_values.data();
  }
  // The first of them now; the kernel looks ahead from there.
  const size_t ahead = std::min<size_t>(64, share->offsets[count]);
  for (size_t e = 0; e < ahead; ++e) {
    __builtin_prefetch(&table_[share->rows[e]], 1);
  }
}

void FtrlLearner::Impl::Totals(const Job& job, uint64_t batch, size_t count,
                               Lane* lane) {
  const size_t parity = batch & 1;
  for (uint32_t u = 0; u < job.threads; ++u) {
    if (job.threads > 1) WaitFor(lanes_[u].published, batch + 1, spins_);
    const int64_t* sums = lanes_[u].sums[parity].data();
    for (size_t i = 0; i < count; ++i) {
      lane->totals[i] = u == 0 ? sums[i] : lane->totals[i] + sums[i];
    }
  }
}

// Notes this thread's part of the examples in its meter.
void FtrlLearner::Impl::Judge(const Job& job, uint32_t t, size_t first,
                              size_t count, Lane* lane) {
  const size_t begin = count * t / job.threads;
  const size_t end = count * (t + 1) / job.threads;
  for (size_t i = begin; i < end; ++i) {
    const size_t e = job.example(first + i);
    lane->meter.Add(static_cast<double>(lane->totals[i]) * kLogitUnit,
                    lane->p[i], job.block.label(e), job.block.weight(e));
  }
}

void FtrlLearner::Impl::Work(const Job& job, uint32_t t) {
  Lane& lane = lanes_[t];
  size_t count = BatchAt(job, job.begin);
  Prepare(job, t, job.begin, count, &lane.shares[0]);
  size_t next_count = 0;
  uint64_t batch = 0;
  for (size_t first = job.begin; first < job.end;
       first += count, count = next_count, ++batch) {
    const Share& share = lane.shares[batch & 1];
    int64_t* sums = lane.sums[batch & 1].data();
    kernel_.logits(table_.data(), scale_, share.rows, share.values,
                   share.offsets.data(), count, sums);
    if (t == 0) {  // the owner of the bias
      const double bias = bias_.Weight(options_.alpha, options_.beta);
      const int64_t units =
          std::llrint(std::clamp(bias, -0x1p20, 0x1p20) / kLogitUnit);
      for (size_t i = 0; i < count; ++i) sums[i] += units;
    }
    if (job.threads > 1) {
      lane.published.store(batch + 1, std::memory_order_release);
      lane.published.notify_all();
    }
    if (first + count < job.end) {
      next_count = BatchAt(job, first + count);
      Prepare(job, t, first + count, next_count, &lane.shares[(batch + 1) & 1]);
    }
    Totals(job, batch, count, &lane);
    kernel_.sigmoid(lane.totals.data(), count, lane.p.data());
    for (size_t i = 0; i < count; ++i) {
      const size_t e = job.example(first + i);
      const double error = lane.p[i] - (job.block.label(e) ? 1.0 : 0.0);
      lane.deltas[i] = static_cast<float>(error) * job.block.weight(e);
    }
    kernel_.update(table_.data(), scale_, share.rows, share.values,
                   share.offsets.data(), lane.deltas.data(), count,
                   job.block.distinct());
    if (t == 0) {
      for (size_t i = 0; i < count; ++i) {
        bias_.Step(options_.alpha, options_.beta, lane.deltas[i]);
      }
    }
    Judge(job, t, first, count, &lane);
  }
}

absl::Status FtrlLearner::Impl::Predict(const ExampleBlock& block,
                                        absl::Span<float> logits) {
  CHECK_EQ(logits.size(), block.examples());
  RETURN_IF_ERROR(CheckRows(block));
  const double bias =
      static_cast<float>(bias_.Weight(options_.alpha, options_.beta));
  team_.Run([&](uint32_t t) {
    const size_t begin = block.examples() * t / team_.size();
    const size_t end = block.examples() * (t + 1) / team_.size();
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
  RETURN_IF_ERROR(CheckOptions(options, rows));
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

v1::Metrics FtrlLearner::Progress() const {
  ProgressMeter all;
  for (const Lane& lane : impl_->lanes_) all.Merge(lane.meter);
  return all.Metrics();
}

void FtrlLearner::ResetProgress() {
  for (Lane& lane : impl_->lanes_) lane.meter.Reset();
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
  const uint64_t checksum = Hash64(state);
  state.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return state;
}

absl::Status FtrlLearner::Restore(absl::string_view state) {
  StateHead head;
  if (state.size() < sizeof(head) + 8) {
    return absl::DataLossError(absl::StrCat("optimizer state: ", state.size(),
                                            " bytes are less than its header"));
  }
  memcpy(&head, state.data(), sizeof(head));
  if (memcmp(head.magic, kMagic, 6) != 0) {
    return absl::FailedPreconditionError(
        "optimizer state: not of an FTRL learner");
  }
  if (memcmp(head.magic, kMagic, 8) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("optimizer state: format ",
                     absl::string_view(head.magic + 6, 2), ", this reads 01"));
  }
  const uint64_t body = state.size() - sizeof(head) - 8;
  if (body % sizeof(FtrlSlot) != 0 || body / sizeof(FtrlSlot) != head.rows) {
    return absl::DataLossError(absl::StrCat("optimizer state: ", state.size(),
                                            " bytes do not hold ", head.rows,
                                            " rows"));
  }
  uint64_t checksum;
  memcpy(&checksum, state.data() + state.size() - 8, 8);
  if (checksum != Hash64(state.substr(0, state.size() - 8))) {
    return absl::DataLossError("optimizer state: wrong checksum");
  }
  HugeArray<FtrlSlot> table(head.rows);
  if (body > 0) memcpy(table.data(), state.data() + sizeof(head), body);
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
  RETURN_IF_ERROR(CheckOptions(impl_->options_, rows));
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
}

FrozenLogistic FtrlLearner::Freeze() const {
  FrozenLogistic frozen;
  frozen.bias = static_cast<float>(
      impl_->bias_.Weight(impl_->options_.alpha, impl_->options_.beta));
  frozen.weights.resize(rows());
  for (uint64_t r = 0; r < rows(); ++r) {
    frozen.weights[r] = FtrlWeight(impl_->scale_, impl_->table_[r]);
    frozen.nonzero += frozen.weights[r] != 0 ? 1 : 0;
  }
  return frozen;
}

}  // namespace adrank
