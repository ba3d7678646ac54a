// What an EmbeddingLearner is made with.
#ifndef ADRANK_TRAINER_EMBEDDING_OPTIONS_H_
#define ADRANK_TRAINER_EMBEDDING_OPTIONS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "model/graph.h"
#include "proto/trainer_config.pb.h"
#include "trainer/row_table.h"

namespace adrank {

struct EmbeddingOptions {
  v1::ModelGraph graph;
  RowTableOptions table;  // dim, linear and seed follow from the rest
  float dense_rate = 0.001f;
  float dense_l2 = 0;
  float clip_norm = 10;  // <= 0: none
  uint32_t batch_size = 2048;
  float average_decay = 0;
  bool self_distillation = false;
  bool bf16 = false;
  // Factor of the learning rates, constant before Begin; PLATEAU is the
  // caller's (ScaleRate).
  v1::Schedule schedule;
  // Logit of the base rate: the bias at first.
  float initial_bias = 0;
  uint64_t seed = 0;
  // 0: all cores. No effect on what is learnt.
  uint32_t threads = 1;
};

// The options of a resolved config (trainer/config.h).
EmbeddingOptions EmbeddingOptionsFrom(const v1::EmbeddingConfig& config,
                                      uint64_t seed, uint32_t threads);

// InvalidArgument names the option that is out of its range for a training
// graph and a table of so many rows.
absl::Status CheckOptions(const EmbeddingOptions& options, const Graph& graph,
                          uint64_t rows);

}  // namespace adrank

#endif  // ADRANK_TRAINER_EMBEDDING_OPTIONS_H_
