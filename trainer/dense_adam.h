// Adam (Kingma and Ba 2015) over the parameters of a graph, with L2 of the
// weight matrices in the gradient and an exponential average beside it.
#ifndef ADRANK_TRAINER_DENSE_ADAM_H_
#define ADRANK_TRAINER_DENSE_ADAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "model/graph.h"
#include "trainer/thread_team.h"

namespace adrank {

class DenseAdam {
 public:
  DenseAdam(const Graph& graph, float learning_rate, float l2,
            float average_decay);

  // Where the average begins: the initial parameters.
  void StartAverage(const std::vector<float>& parameters);
  const std::vector<float>& average() const { return average_; }

  // Adds the L2 part to the gradients; returns their sum of squares.
  double Squares(const std::vector<float>& parameters,
                 std::vector<float>& gradients, ThreadTeam* team) const;
  // One step with gradients x scale. Running statistics of batch norm only
  // enter the average.
  void Step(float rate_factor, float scale, const std::vector<float>& gradients,
            std::vector<float>* parameters, ThreadTeam* team);

  // state := u64 steps, first moments, second moments, averages (if kept)
  void Save(std::string* out) const;
  // Takes its part from the front of *in. DataLoss when it is too short.
  absl::Status Restore(absl::string_view* in);

 private:
  // Constant after construction.
  float learning_rate_;
  float l2_;
  float average_decay_;
  std::vector<std::pair<size_t, size_t>> regularized_;  // ranges

  uint64_t steps_ = 0;
  std::vector<float> m_, v_, average_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_DENSE_ADAM_H_
