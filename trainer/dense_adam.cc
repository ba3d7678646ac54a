#include "trainer/dense_adam.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/kernels/vector.h"
#include "trainer/adam_step.h"
#include "trainer/graph_trainer.h"

namespace adrank {
namespace {

constexpr size_t kRange = 16384;

}  // namespace

DenseAdam::DenseAdam(const Graph& graph, float learning_rate, float l2,
                     float average_decay)
    : learning_rate_(learning_rate),
      l2_(l2),
      average_decay_(average_decay),
      m_(graph.parameters),
      v_(graph.parameters) {
  for (const Tensor& t : graph.tensors) {
    if (t.product) regularized_.emplace_back(t.offset, t.size());
  }
}

void DenseAdam::StartAverage(const std::vector<float>& parameters) {
  if (average_decay_ > 0) average_ = parameters;
}

double DenseAdam::Squares(const std::vector<float>& parameters,
                          std::vector<float>& gradients,
                          ThreadTeam* team) const {
  if (l2_ > 0) {
    for (const auto& [begin, n] : regularized_) {
      AddDecay(n, l2_, &parameters[begin], &gradients[begin]);
    }
  }
  std::vector<double> squares((gradients.size() + kRange - 1) / kRange);
  ParallelFor(team, squares.size(), [&](size_t i, uint32_t) {
    const size_t begin = i * kRange;
    const size_t size = std::min(gradients.size() - begin, kRange);
    squares[i] = DotFixed(&gradients[begin], &gradients[begin], size);
  });
  double sum = 0;
  for (const double s : squares) sum += s;
  return sum;
}

void DenseAdam::Step(float rate_factor, float scale,
                     const std::vector<float>& gradients,
                     std::vector<float>* parameters, ThreadTeam* team) {
  const AdamStep step = AdamStep::Of(learning_rate_ * rate_factor, ++steps_);
  const auto keep = static_cast<float>(AverageKeep(average_decay_, steps_));
  const size_t n = parameters->size();
  ParallelFor(team, (n + kRange - 1) / kRange, [&](size_t i, uint32_t) {
    const size_t begin = i * kRange, size = std::min(n - begin, kRange);
    float* const w = parameters->data() + begin;
    Adam(size, step, scale, &gradients[begin], &m_[begin], &v_[begin], w);
    if (average_decay_ > 0) MoveAverage(size, keep, w, &average_[begin]);
  });
}

void DenseAdam::Save(std::string* out) const {
  out->append(reinterpret_cast<const char*>(&steps_), sizeof(steps_));
  for (const auto* array : {&m_, &v_, &average_}) {
    out->append(reinterpret_cast<const char*>(array->data()),
                array->size() * sizeof(float));
  }
}

absl::Status DenseAdam::Restore(absl::string_view* in) {
  if (average_decay_ > 0) average_.resize(m_.size());
  const size_t floats = m_.size() + v_.size() + average_.size();
  if (in->size() < sizeof(steps_) + floats * sizeof(float)) {
    return absl::DataLossError("optimizer state: the moments are cut short");
  }
  std::memcpy(&steps_, in->data(), sizeof(steps_));
  in->remove_prefix(sizeof(steps_));
  for (auto* array : {&m_, &v_, &average_}) {
    const size_t bytes = array->size() * sizeof(float);
    if (bytes > 0) std::memcpy(array->data(), in->data(), bytes);
    in->remove_prefix(bytes);
  }
  return absl::OkStatus();
}

}  // namespace adrank
