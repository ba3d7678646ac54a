#include "model/calibrator.h"

#include <cfloat>
#include <cmath>
#include <limits>

#include "base/rng.h"
#include "model/portable_math.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The formulas as they stand in the proto, in long double.
double NaiveBeforeSlices(const v1::Calibrator& c, float logit) {
  long double z = logit;
  if (c.negative_keep_rate() > 0) z += logl(c.negative_keep_rate());
  if (c.has_platt()) z = c.platt().slope() * z + c.platt().intercept();
  const long double p = 1 / (1 + expl(-z));
  if (!c.has_isotonic()) return static_cast<double>(p);
  const auto& iso = c.isotonic();
  const int n = iso.x_size();
  if (p <= iso.x(0)) return iso.y(0);
  for (int i = 1; i < n; ++i) {
    if (p > iso.x(i)) continue;
    const long double t = (p - iso.x(i - 1)) / (iso.x(i) - iso.x(i - 1));
    return static_cast<double>(iso.y(i - 1) + t * (iso.y(i) - iso.y(i - 1)));
  }
  return iso.y(n - 1);
}

double NaiveProbability(const v1::Calibrator& c, float logit, uint64_t slice) {
  const long double p = NaiveBeforeSlices(c, logit);
  for (int i = 0; i < c.slice_bias().id_size(); ++i) {
    if (c.slice_bias().id(i) != slice) continue;
    const long double moved = p * expl(c.slice_bias().bias(i));
    return static_cast<double>(moved / (1 - p + moved));
  }
  return static_cast<double>(p);
}

// Ids of RandomCalibrator's slices are below this.
constexpr uint64_t kSlices = 12;

v1::Calibrator RandomCalibrator(Rng* rng) {
  v1::Calibrator c;
  if (rng->Bernoulli(0.5)) c.set_negative_keep_rate(1 - rng->Uniform());
  if (rng->Bernoulli(0.5)) {
    c.mutable_platt()->set_slope(std::exp(2 * rng->Normal()));
    c.mutable_platt()->set_intercept(3 * rng->Normal());
  }
  if (rng->Bernoulli(0.5)) {
    double x = 0.2 * rng->Uniform(), y = 0.2 * rng->Uniform();
    while (x < 1 && y < 1) {
      c.mutable_isotonic()->add_x(x);
      c.mutable_isotonic()->add_y(y);
      x += 0.3 * (1 - rng->Uniform());
      if (rng->Bernoulli(0.7)) y += 0.3 * rng->Uniform();
    }
  }
  if (rng->Bernoulli(0.5)) {
    c.mutable_slice_bias()->set_field("city");
    for (uint64_t id = 1; id < kSlices; ++id) {
      if (rng->Bernoulli(0.5)) continue;
      c.mutable_slice_bias()->add_id(id);
      c.mutable_slice_bias()->add_bias(2 * rng->Normal());
    }
  }
  return c;
}

Calibrator Make(const v1::Calibrator& proto) {
  auto calibrator = Calibrator::Create(proto);
  EXPECT_OK(calibrator);
  return *std::move(calibrator);
}

TEST(PortableMath, ExpAndLogAreWithinTheirBounds) {
  Rng rng(1);
  for (int i = 0; i < 200000; ++i) {
    const double x = i % 2 == 0 ? 1417 * rng.Uniform() - 708 : rng.Normal();
    const auto exact = static_cast<double>(expl(x));
    EXPECT_NEAR(PortableExp(x) / exact, 1, 2.3e-16) << x;
    EXPECT_NEAR(PortableLog(exact), static_cast<double>(logl(exact)),
                4.5e-16 * std::fabs(x) + 1.2e-16);
  }
  EXPECT_EQ(PortableExp(0), 1);
  EXPECT_EQ(PortableLog(1), 0);
  EXPECT_EQ(PortableExp(-kInfinity), 0);
  EXPECT_EQ(PortableExp(kInfinity), kInfinity);
  EXPECT_EQ(PortableExp(1e308), kInfinity);
  EXPECT_TRUE(std::isnan(PortableExp(kNan)));
}

// A golden answer of another machine must be reproduced here. The values are
// those of long double arithmetic, rounded once.
TEST(PortableMath, SigmoidIsTheRoundedExactValue) {
  Rng rng(2);
  int different = 0;
  for (int i = 0; i < 200000; ++i) {
    const auto z = static_cast<float>(6 * rng.Normal());
    const auto exact =
        static_cast<float>(1 / (1 + expl(-static_cast<long double>(z))));
    if (Sigmoid(z) != exact) ++different;
    EXPECT_NEAR(Sigmoid(z) / exact, 1, 1.2e-7);
  }
  // The double's last bit decides a rounding to float once in 2^28 or so.
  EXPECT_LE(different, 1);
}

TEST(PortableMath, SigmoidNeverDecreasesFromOneFloatToTheNext) {
  Rng rng(3);
  for (int start = 0; start < 20000; ++start) {
    auto z = static_cast<float>(
        std::pow(10.0, 6 * rng.Uniform() - 10 + 4 * (start % 3)));
    if (start % 2 == 0) z = -z;
    float last = Sigmoid(z);
    for (int step = 0; step < 20; ++step) {
      z = std::nextafterf(z, FLT_MAX);
      const float p = Sigmoid(z);
      ASSERT_LE(last, p) << z;
      last = p;
    }
  }
}

TEST(Calibrator, TheIdentityIsTheSigmoid) {
  const Calibrator calibrator;
  EXPECT_EQ(calibrator.Probability(0), 0.5f);
  EXPECT_EQ(calibrator.Probability(INFINITY), 1);
  EXPECT_EQ(calibrator.Probability(-INFINITY), 0);
  EXPECT_EQ(calibrator.Probability(FLT_MAX), 1);
  EXPECT_EQ(calibrator.Probability(-FLT_MAX), 0);
  EXPECT_TRUE(std::isnan(calibrator.Probability(NAN)));
  EXPECT_FLOAT_EQ(Make({}).Probability(-3), 0.047425873f);
}

TEST(Calibrator, AgreesWithTheFormulas) {
  Rng rng(4);
  for (int round = 0; round < 2000; ++round) {
    const v1::Calibrator proto = RandomCalibrator(&rng);
    const Calibrator calibrator = Make(proto);
    for (int i = 0; i < 20; ++i) {
      const auto logit = static_cast<float>(4 * rng.Normal());
      const uint64_t slice = rng.Below(kSlices + 1);
      const double exact = NaiveProbability(proto, logit, slice);
      // Two roundings to float, magnified by the steepest isotonic segment.
      double steepest = 1;
      for (int k = 1; k < proto.isotonic().x_size(); ++k) {
        const auto& iso = proto.isotonic();
        steepest = std::max(
            steepest, (iso.y(k) - iso.y(k - 1)) / (iso.x(k) - iso.x(k - 1)));
      }
      for (int k = 0; k < proto.slice_bias().id_size(); ++k) {
        if (proto.slice_bias().id(k) != slice) continue;
        steepest *= std::exp(std::fabs(proto.slice_bias().bias(k)));
      }
      EXPECT_NEAR(calibrator.Probability(logit, slice), exact, 5e-7 * steepest)
          << proto.ShortDebugString() << " at " << logit;
    }
  }
}

// He et al. 2014, section 6.3.
TEST(Calibrator, DownSamplingIsUndone) {
  Rng rng(5);
  for (double w : {1.0, 0.5, 0.1, 0.025, 1e-4, 1e-300}) {
    v1::Calibrator proto;
    proto.set_negative_keep_rate(w);
    const Calibrator calibrator = Make(proto);
    for (int i = 0; i < 1000; ++i) {
      const auto logit = static_cast<float>(3 * rng.Normal());
      const double p = 1 / (1 + std::exp(-static_cast<double>(logit)));
      const double q = p / (p + (1 - p) / w);
      EXPECT_NEAR(calibrator.Probability(logit), q, 1e-6 * q + 1e-45);
    }
  }
}

TEST(Calibrator, NeverReordersASliceAndStaysInTheUnitInterval) {
  Rng rng(6);
  for (int round = 0; round < 2000; ++round) {
    v1::Calibrator proto = RandomCalibrator(&rng);
    if (round % 5 == 0) {  // extremes
      proto.mutable_platt()->set_slope(
          std::pow(10.0, 600 * rng.Uniform() - 300));
      proto.mutable_platt()->set_intercept(std::pow(10.0, 300 * rng.Uniform()));
    }
    const uint64_t slice = rng.Below(kSlices);
    if (round % 7 == 0 && proto.slice_bias().bias_size() > 0) {
      proto.mutable_slice_bias()->set_bias(0, round % 2 == 0 ? -100 : 100);
    }
    const Calibrator calibrator = Make(proto);
    auto logit = static_cast<float>(
        round % 2 == 0 ? -40
                       : rng.Normal() * std::pow(10.0, 8 * rng.Uniform() - 6));
    float last = calibrator.Probability(logit, slice);
    for (int i = 0; i < 200; ++i) {
      logit = round % 2 == 0 ? logit + static_cast<float>(0.8 * rng.Uniform())
                             : std::nextafterf(logit, FLT_MAX);
      const float p = calibrator.Probability(logit, slice);
      ASSERT_TRUE(p >= 0 && p <= 1) << p;
      ASSERT_LE(last, p) << proto.ShortDebugString() << " at " << logit;
      last = p;
    }
    EXPECT_LE(calibrator.Probability(-INFINITY, slice),
              calibrator.Probability(-FLT_MAX, slice));
    EXPECT_LE(calibrator.Probability(FLT_MAX, slice),
              calibrator.Probability(INFINITY, slice));
  }
}

TEST(Calibrator, IsotonicMeetsItsKnotsAndIsConstantBeyond) {
  v1::Calibrator proto;
  for (double x : {0.25, 0.5, 0.75}) proto.mutable_isotonic()->add_x(x);
  for (double y : {0.1, 0.1, 0.9}) proto.mutable_isotonic()->add_y(y);
  const Calibrator calibrator = Make(proto);
  EXPECT_EQ(calibrator.Probability(-50), 0.1f);
  EXPECT_EQ(calibrator.Probability(0), 0.1f);
  EXPECT_EQ(calibrator.Probability(50), 0.9f);
  EXPECT_NEAR(calibrator.Probability(std::log(0.625f / 0.375f)), 0.5, 1e-6);
  EXPECT_TRUE(std::isnan(calibrator.Probability(NAN)));
}

TEST(Calibrator, OneKnotIsAConstant) {
  v1::Calibrator proto;
  proto.mutable_isotonic()->add_x(0.5);
  proto.mutable_isotonic()->add_y(0.2);
  for (float logit : {-5.0f, 0.0f, 5.0f}) {
    EXPECT_EQ(Make(proto).Probability(logit), 0.2f);
  }
}

TEST(Calibrator, OnlyAListedSliceMoves) {
  v1::Calibrator proto;
  proto.mutable_slice_bias()->set_field("city");
  proto.mutable_slice_bias()->add_id(7);
  proto.mutable_slice_bias()->add_bias(std::log(3.0));
  const Calibrator calibrator = Make(proto);
  EXPECT_EQ(calibrator.slice_field(), "city");
  for (uint64_t slice : {0, 6, 8}) {
    EXPECT_EQ(calibrator.Probability(0, slice), 0.5f);
  }
  EXPECT_FLOAT_EQ(calibrator.Probability(0, 7), 0.75f);
  EXPECT_EQ(calibrator.Probability(-INFINITY, 7), 0);
  EXPECT_EQ(calibrator.Probability(INFINITY, 7), 1);
  EXPECT_TRUE(std::isnan(calibrator.Probability(NAN, 7)));
}

TEST(Calibrator, BadParametersAreNamed) {
  const auto expect = [](auto change, const char* message) {
    v1::Calibrator proto;
    change(&proto);
    EXPECT_THAT(
        Calibrator::Create(proto),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  for (double rate : {-0.1, 1.5, kNan, kInfinity, 1e-310}) {
    expect([&](auto* c) { c->set_negative_keep_rate(rate); },
           "negative_keep_rate ");
  }
  for (double slope : {0.0, -1.0, kNan, kInfinity}) {
    expect([&](auto* c) { c->mutable_platt()->set_slope(slope); },
           "platt: slope ");
  }
  expect(
      [](auto* c) {
        c->mutable_platt()->set_slope(1);
        c->mutable_platt()->set_intercept(kNan);
      },
      "platt: intercept nan");
  const auto isotonic = [&](std::vector<double> x, std::vector<double> y,
                            const char* message) {
    expect(
        [&](auto* c) {
          c->mutable_isotonic()->mutable_x()->Assign(x.begin(), x.end());
          c->mutable_isotonic()->mutable_y()->Assign(y.begin(), y.end());
        },
        message);
  };
  isotonic({}, {}, "isotonic: 0 x and 0 y");
  isotonic({0.5}, {0.5, 0.6}, "isotonic: 1 x and 2 y");
  isotonic({0.5, 0.5}, {0.1, 0.2}, "isotonic: x[1] = 0.5 not above x[0]");
  isotonic({0.4, 0.5}, {0.2, 0.1}, "isotonic: y[1] = 0.1 below y[0]");
  isotonic({0.4, 1.5}, {0.2, 0.3}, "isotonic: x[1] = 1.5 not in [0, 1]");
  isotonic({0.4, kNan}, {0.2, 0.3}, "isotonic: x[1] = nan");
  isotonic({0.4, 0.5}, {kNan, 0.3}, "isotonic: y[0] = nan");
  const auto slices = [&](const char* field, std::vector<uint64_t> ids,
                          std::vector<double> biases, const char* message) {
    expect(
        [&](auto* c) {
          auto* s = c->mutable_slice_bias();
          s->set_field(field);
          s->mutable_id()->Assign(ids.begin(), ids.end());
          s->mutable_bias()->Assign(biases.begin(), biases.end());
        },
        message);
  };
  slices("", {1}, {0}, "slice_bias: no field");
  slices("city", {1, 2}, {0}, "slice_bias: 2 ids and 1 biases");
  slices("city", {0}, {0}, "slice_bias: id[0] is 0");
  slices("city", {2, 2}, {0, 0}, "slice_bias: id[1]");
  slices("city", {2}, {kNan}, "slice_bias: bias[0] = nan");
  slices("city", {2}, {101}, "slice_bias: bias[0] = 101");
}

}  // namespace
}  // namespace adrank
