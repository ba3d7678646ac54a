// What the embedding family has learnt.
#ifndef ADRANK_MODEL_EMBEDDING_WEIGHTS_H_
#define ADRANK_MODEL_EMBEDDING_WEIGHTS_H_

#include <cstdint>
#include <vector>

namespace adrank {

struct EmbeddingWeights {
  uint32_t dim = 0;
  // [rows], or empty when the graph has no linear part.
  std::vector<float> linear;
  // [rows][dim]
  std::vector<float> vectors;
  // [parameters] of the graph without batch norm (Graph::Create, training =
  // false); the first is the bias.
  std::vector<float> parameters;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_EMBEDDING_WEIGHTS_H_
