#include "trainer/adam_step.h"

#include <algorithm>
#include <cmath>

#include "model/kernels/clones.h"

namespace adrank {
namespace {

ADRANK_CLONES void AdamLoop(size_t n, const AdamStep s, float scale,
                            const float* gradient, float* m, float* v,
                            float* w) {
  for (size_t j = 0; j < n; ++j) {
    const float g = scale * gradient[j];
    m[j] = kAdamBeta1 * m[j] + (1 - kAdamBeta1) * g;
    v[j] = kAdamBeta2 * v[j] + (1 - kAdamBeta2) * (g * g);
    w[j] -= s.rate * (m[j] * s.correction) /
            (std::sqrt(v[j]) * s.root + kAdamEpsilon);
  }
}

ADRANK_CLONES int IdleLoop(size_t n, const AdamStep s, float peak, float* m,
                           float* v, float* w) {
  int moves = 0;
  for (size_t j = 0; j < n; ++j) {
    m[j] = kAdamBeta1 * m[j];
    v[j] = kAdamBeta2 * v[j];
    const float top = m[j] * s.correction;
    const float bottom = std::sqrt(v[j]) * s.root + kAdamEpsilon;
    moves |= w[j] - peak * top / bottom != w[j] ? 1 : 0;
    w[j] -= s.rate * top / bottom;
  }
  return moves;
}

ADRANK_CLONES void AverageLoop(size_t n, float keep, const float* w, float* a) {
  for (size_t j = 0; j < n; ++j) a[j] = w[j] + keep * (a[j] - w[j]);
}

ADRANK_CLONES void DecayLoop(size_t n, float l2, const float* w, float* g) {
  for (size_t j = 0; j < n; ++j) g[j] += l2 * w[j];
}

}  // namespace

AdamStep AdamStep::Of(float rate, uint64_t t) {
  const auto steps = static_cast<double>(t);
  return {rate,
          static_cast<float>(1 / (1 - std::pow(double{kAdamBeta1}, steps))),
          static_cast<float>(
              1 / std::sqrt(1 - std::pow(double{kAdamBeta2}, steps)))};
}

void Adam(size_t n, const AdamStep& step, float scale, const float* gradient,
          float* m, float* v, float* w) {
  AdamLoop(n, step, scale, gradient, m, v, w);
}
bool AdamIdle(size_t n, const AdamStep& step, float peak, float* m, float* v,
              float* w) {
  return IdleLoop(n, step, peak, m, v, w) != 0;
}
double AverageKeep(float decay, uint64_t t) {
  const auto steps = static_cast<double>(t);
  return std::min<double>(decay, (1 + steps) / (10 + steps));
}
void MoveAverage(size_t n, float keep, const float* w, float* a) {
  AverageLoop(n, keep, w, a);
}
void AddDecay(size_t n, float l2, const float* w, float* g) {
  DecayLoop(n, l2, w, g);
}

}  // namespace adrank
