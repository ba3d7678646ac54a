// What speed costs in quality: the learners, parallel and in mini-batches,
// against plain loops over the same formulas, one example at a time, one
// thread, on a market of 39 fields whose last tenth is the test. Each line is
// the test's normalized entropy of ours; "floor" is the plain loop's with the
// same rates, "truth" the planted model's own. The last line of a model is the
// best of ours by the best of the plain ones over the rates.
//
//   bench_one_pass_quality [--rows=N] [--dim=N] [--batch=N] [--threads=N]
//       [--model=logistic|row_adagrad|adagrad|ftrl] [--rates=A,B,..]
//       [--alpha=A] [--eps=E] [--init_std=S] [--l1=L] [--l2=L]
//       [--plain=false]
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "bench/ctr_market.h"
#include "trainer/fm.h"
#include "trainer/ftrl.h"

namespace adrank {
namespace {

struct Flags {
  uint64_t rows = 5'000'000;
  std::string model;  // empty: all
  std::vector<double> rates;
  bool plain = true;
  FmOptions fm;
};

double Loss(double logit, bool click) {
  return std::log1p(std::exp(click ? -logit : logit));
}

// What a model is, seen from here: a logit, and a step along delta = p - y.
class Model {
 public:
  virtual ~Model() = default;
  virtual double Logit(const uint32_t* rows, size_t n) = 0;
  virtual void Step(const uint32_t* rows, size_t n, double delta) = 0;
};

// FTRL-Proximal, McMahan et al. 2013, Algorithm 1 with l1 = 0; the bias is the
// row after the last.
class PlainLogistic : public Model {
 public:
  PlainLogistic(double alpha, double beta, double l2, size_t rows)
      : alpha_(alpha), beta_(beta), l2_(l2), z_(rows + 1), n_(rows + 1) {}

  double Weight(size_t r) const {
    return -z_[r] / ((beta_ + std::sqrt(n_[r])) / alpha_ + l2_);
  }
  double Logit(const uint32_t* rows, size_t n) override {
    double logit = Weight(z_.size() - 1);
    for (size_t e = 0; e < n; ++e) logit += Weight(rows[e]);
    return logit;
  }
  void Step(const uint32_t* rows, size_t n, double delta) override {
    for (size_t e = 0; e < n; ++e) StepRow(rows[e], delta);
    StepRow(z_.size() - 1, delta);
  }

 private:
  void StepRow(size_t r, double g) {
    const double next = n_[r] + g * g;
    z_[r] += g - (std::sqrt(next) - std::sqrt(n_[r])) / alpha_ * Weight(r);
    n_[r] = static_cast<float>(next);
  }
  const double alpha_, beta_, l2_;
  std::vector<float> z_, n_;
};

// Rendle 2010 with the vector optimizers as their papers have them.
class PlainFm : public Model {
 public:
  PlainFm(const FmOptions& o, size_t rows)
      : o_(o),
        linear_(o.linear.alpha, o.linear.beta, o.linear.l2, rows),
        v_(rows * o.dim),
        g_(rows * (o.optimizer == FmOptimizer::kRowAdagrad ? 1 : o.dim),
           static_cast<float>(o.initial_accumulator)),
        s_(o.dim) {
    // Our initial vectors: others move the NE by some 0.1 %.
    FmScale begin = {};
    begin.optimizer = FmOptimizer::kRowAdagrad;  // which keeps v as it is
    begin.dim = o.dim;
    begin.init_std = static_cast<float>(o.init_std);
    begin.seed = o.seed;
    std::vector<float> state(FmStride(begin.optimizer, o.dim));
    for (uint32_t r = 0; r < rows; ++r) {
      FmBegin(begin, r, state.data());
      for (uint32_t j = 0; j < o.dim; ++j) {
        float& v = v_[size_t{r} * o.dim + j];
        v = FmVector(begin, state.data(), j);
        // FTRL keeps z; its weight at n = 0 is the initial one.
        if (ftrl()) v *= static_cast<float>(-(o.eps / o.lr + o.l2));
      }
    }
  }

  double Logit(const uint32_t* rows, size_t n) override {
    double pairs = 0;
    std::fill(s_.begin(), s_.end(), 0.0);
    for (size_t e = 0; e < n; ++e) {
      for (uint32_t j = 0; j < o_.dim; ++j) {
        const double v = Vector(size_t{rows[e]} * o_.dim + j);
        s_[j] += v;
        pairs -= v * v;
      }
    }
    for (const double x : s_) pairs += x * x;
    return linear_.Logit(rows, n) + pairs / 2;
  }
  // s_ is of the Logit just before.
  void Step(const uint32_t* rows, size_t n, double delta) override {
    for (size_t e = 0; e < n; ++e) StepRow(rows[e], delta);
    linear_.Step(rows, n, delta);
  }

 private:
  bool ftrl() const { return o_.optimizer == FmOptimizer::kFtrl; }
  double Vector(size_t i) const {
    if (!ftrl()) return v_[i];
    return -v_[i] / ((o_.eps + std::sqrt(g_[i])) / o_.lr + o_.l2);
  }
  void StepRow(size_t r, double delta) {
    double square = 0;
    for (uint32_t j = 0; j < o_.dim; ++j) {
      const size_t i = r * o_.dim + j;
      const double v = Vector(i);
      double g = delta * (s_[j] - v);
      if (ftrl()) {
        const double next = g_[i] + g * g;
        v_[i] += g - (std::sqrt(next) - std::sqrt(g_[i])) / o_.lr * v;
        g_[i] = static_cast<float>(next);
        continue;
      }
      g += o_.l2 * v;
      square += g * g;
      if (o_.optimizer == FmOptimizer::kAdagrad) {
        g_[i] += g * g;
        v_[i] -= o_.lr * g / (std::sqrt(g_[i]) + o_.eps);
      }
    }
    if (o_.optimizer != FmOptimizer::kRowAdagrad) return;
    g_[r] += square / o_.dim;
    const double rate = o_.lr / (std::sqrt(g_[r]) + o_.eps);
    for (uint32_t j = 0; j < o_.dim; ++j) {
      float& v = v_[r * o_.dim + j];
      v -= rate * (delta * (s_[j] - v) + o_.l2 * v);
    }
  }

  const FmOptions o_;
  PlainLogistic linear_;
  std::vector<float> v_, g_;
  std::vector<double> s_;
};

struct Data {
  CtrMarket market;
  ExampleBlocks train, test;
  double test_entropy = 0;  // of always predicting the test's click rate
  double truth = 0;         // NE
};

Data MakeData(uint64_t rows) {
  Data data;
  data.train = DrawExamples(data.market, rows - rows / 10, 1);
  double loss = 0;
  data.test = DrawExamples(
      data.market, rows / 10, 2, {},
      [&](float logit, bool click) { loss += Loss(logit, click); });
  const double n = static_cast<double>(data.test.examples());
  const double rate = static_cast<double>(data.test.clicks()) / n;
  data.test_entropy = -rate * std::log(rate) - (1 - rate) * std::log(1 - rate);
  data.truth = loss / n / data.test_entropy;
  return data;
}

void ForEachExample(const ExampleBlocks& blocks,
                    absl::FunctionRef<void(const uint32_t*, size_t, bool)> f) {
  const absl::Status status = blocks.ForEach([&](const ExampleBlock& b) {
    for (size_t i = 0; i < b.examples(); ++i) {
      f(b.rows() + b.begin(i), b.begin(i + 1) - b.begin(i), b.label(i));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) std::abort();
}

double PlainNe(const Data& data, Model* model) {
  ForEachExample(data.train, [&](const uint32_t* rows, size_t n, bool click) {
    const double p = Sigmoid(model->Logit(rows, n));
    model->Step(rows, n, p - (click ? 1 : 0));
  });
  double loss = 0;
  ForEachExample(data.test, [&](const uint32_t* rows, size_t n, bool click) {
    loss += Loss(model->Logit(rows, n), click);
  });
  return loss / static_cast<double>(data.test.examples()) / data.test_entropy;
}

double OursNe(const Data& data, Learner* learner) {
  double loss = 0;
  absl::Status status = data.train.ForEach(
      [&](const ExampleBlock& block) { return learner->Update(block); });
  status.Update(data.test.ForEach([&](const ExampleBlock& block) {
    std::vector<float> logits(block.examples());
    const absl::Status s = learner->Predict(block, absl::MakeSpan(logits));
    for (size_t i = 0; i < logits.size(); ++i) {
      loss += Loss(logits[i], block.label(i));
    }
    return s;
  }));
  if (!status.ok()) std::abort();
  return loss / static_cast<double>(data.test.examples()) / data.test_entropy;
}

void Print(const std::string& name, double ours, double plain,
           const std::string& params) {
  absl::PrintF(
      "{\"name\":\"one_pass_quality\",\"value\":%.5f,\"unit\":\"NE\","
      "\"floor\":%.5f,\"ratio\":%.5f,\"params\":{\"model\":\"%s\",%s}}\n",
      ours, plain, ours / plain, name, params);
  fflush(stdout);
}

struct Family {
  std::string name;
  std::optional<FmOptimizer> optimizer;  // none: logistic
  std::vector<double> rates;
};

void Compare(const Data& data, const Flags& flags, const Family& family) {
  double best_ours = INFINITY, best_plain = INFINITY;
  const uint32_t rows = data.market.rows();
  for (const double rate : flags.rates.empty() ? family.rates : flags.rates) {
    FmOptions o = flags.fm;
    std::unique_ptr<Learner> learner;
    std::unique_ptr<Model> plain;
    if (!family.optimizer) {
      o.linear.alpha = rate;
      learner = *FtrlLearner::Create(o.linear, rows);
    } else {
      o.optimizer = *family.optimizer;
      o.lr = rate;
      learner = *FmLearner::Create(o, rows);
    }
    const double ours = OursNe(data, learner.get());
    learner.reset();
    double reference = NAN;
    if (flags.plain && !family.optimizer) {
      plain = std::make_unique<PlainLogistic>(rate, o.linear.beta, o.linear.l2,
                                              rows);
    } else if (flags.plain) {
      plain = std::make_unique<PlainFm>(o, rows);
    }
    if (plain != nullptr) reference = PlainNe(data, plain.get());
    Print(family.name, ours, reference,
          absl::StrFormat("\"rate\":%g,\"dim\":%d,\"alpha\":%g,\"eps\":%g,"
                          "\"init_std\":%g,\"l2\":%g,\"batch\":%d,"
                          "\"truth\":%.5f",
                          rate, family.optimizer ? o.dim : 0, o.linear.alpha,
                          o.eps, o.init_std, o.l2, o.linear.max_batch,
                          data.truth));
    best_ours = std::min(best_ours, ours);
    best_plain = std::min(best_plain, reference);
  }
  Print(family.name, best_ours, best_plain, "\"rate\":\"best\"");
}

bool ParseFlag(absl::string_view arg, Flags* flags) {
  FmOptions& fm = flags->fm;
  if (absl::ConsumePrefix(&arg, "--rates=")) {
    for (const absl::string_view rate : absl::StrSplit(arg, ',')) {
      if (!absl::SimpleAtod(rate, &flags->rates.emplace_back())) return false;
    }
    return true;
  }
  if (absl::ConsumePrefix(&arg, "--model=")) {
    flags->model = std::string(arg);
    return true;
  }
  const std::pair<absl::string_view, double*> doubles[] = {
      {"--alpha=", &fm.linear.alpha},
      {"--eps=", &fm.eps},
      {"--init_std=", &fm.init_std},
      {"--l1=", &fm.l1},
      {"--l2=", &fm.l2}};
  for (const auto& [prefix, target] : doubles) {
    if (absl::ConsumePrefix(&arg, prefix)) {
      return absl::SimpleAtod(arg, target);
    }
  }
  const std::pair<absl::string_view, uint32_t*> counts[] = {
      {"--dim=", &fm.dim},
      {"--batch=", &fm.linear.max_batch},
      {"--threads=", &fm.linear.threads}};
  for (const auto& [prefix, target] : counts) {
    if (absl::ConsumePrefix(&arg, prefix)) {
      return absl::SimpleAtoi(arg, target);
    }
  }
  if (absl::ConsumePrefix(&arg, "--rows=")) {
    return absl::SimpleAtoi(arg, &flags->rows);
  }
  return absl::ConsumePrefix(&arg, "--plain=") &&
         absl::SimpleAtob(arg, &flags->plain);
}

int Main(int argc, char** argv) {
  Flags flags;
  flags.fm.linear.threads = 2;
  flags.fm.linear.alpha = 0.1;  // the best of `logistic` here
  for (int i = 1; i < argc; ++i) {
    if (!ParseFlag(argv[i], &flags)) {
      absl::FPrintF(stderr, "bad argument: %s\n", argv[i]);
      return 2;
    }
  }
  const Data data = MakeData(flags.rows);
  const Family families[] = {
      {"logistic", std::nullopt, {0.05, 0.1, 0.2}},
      {"row_adagrad", FmOptimizer::kRowAdagrad, {0.03, 0.05, 0.07}},
      {"adagrad", FmOptimizer::kAdagrad, {0.03, 0.05, 0.07}},
      {"ftrl", FmOptimizer::kFtrl, {0.03, 0.05, 0.07}}};
  for (const Family& family : families) {
    if (flags.model.empty() || flags.model == family.name) {
      Compare(data, flags, family);
    }
  }
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
