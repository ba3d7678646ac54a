// The elementwise steps that table and dense parameters share. Same bits on
// every CPU.
#ifndef ADRANK_TRAINER_ADAM_STEP_H_
#define ADRANK_TRAINER_ADAM_STEP_H_

#include <cstddef>
#include <cstdint>

namespace adrank {

// Kingma and Ba 2015, their defaults; epsilon as PyTorch adds it.
inline constexpr float kAdamBeta1 = 0.9f;
inline constexpr float kAdamBeta2 = 0.999f;
inline constexpr float kAdamEpsilon = 1e-8f;

struct AdamStep {
  float rate = 0;        // learning rate of this step
  float correction = 1;  // 1 / (1 - beta1^t)
  float root = 1;        // 1 / sqrt(1 - beta2^t)

  // Of step t = 1, 2, ...
  static AdamStep Of(float rate, uint64_t t);
};

// With g the gradient x scale:
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   w -= rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
void Adam(size_t n, const AdamStep& step, float scale, const float* gradient,
          float* m, float* v, float* w);
// The same with g = 0; whether any w would change at the rate `peak` (>= the
// step's).
bool AdamIdle(size_t n, const AdamStep& step, float peak, float* m, float* v,
              float* w);

// What an average keeps of itself at step t: `decay`, but a young one follows
// closely: min(decay, (1 + t) / (10 + t)), as TensorFlow's num_updates rule.
double AverageKeep(float decay, uint64_t t);
// a = w + keep (a - w)
void MoveAverage(size_t n, float keep, const float* w, float* a);
// g += l2 w
void AddDecay(size_t n, float l2, const float* w, float* g);

}  // namespace adrank

#endif  // ADRANK_TRAINER_ADAM_STEP_H_
