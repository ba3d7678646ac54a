#include "trainer/adam_step.h"

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

ADRANK_CLONES int IdleLoop(size_t n, const AdamStep s, float* m, float* v,
                           float* w) {
  int moved = 0;
  for (size_t j = 0; j < n; ++j) {
    m[j] = kAdamBeta1 * m[j];
    v[j] = kAdamBeta2 * v[j];
    const float before = w[j];
    w[j] -= s.rate * (m[j] * s.correction) /
            (std::sqrt(v[j]) * s.root + kAdamEpsilon);
    moved |= w[j] != before ? 1 : 0;
  }
  return moved;
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
bool AdamIdle(size_t n, const AdamStep& step, float* m, float* v, float* w) {
  return IdleLoop(n, step, m, v, w) != 0;
}
void MoveAverage(size_t n, float keep, const float* w, float* a) {
  AverageLoop(n, keep, w, a);
}
void AddDecay(size_t n, float l2, const float* w, float* g) {
  DecayLoop(n, l2, w, g);
}

}  // namespace adrank
