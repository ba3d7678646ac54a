// Examples with a planted logistic truth.
#ifndef ADRANK_TESTS_TRAINER_PLANTED_H_
#define ADRANK_TESTS_TRAINER_PLANTED_H_

#include <cmath>
#include <vector>

#include "base/log.h"
#include "base/rng.h"
#include "trainer/example_blocks.h"

namespace adrank::testing {

struct PlantedOptions {
  size_t examples = 5000;
  uint32_t fields = 12;
  uint32_t field_rows = 200;  // values per field, Zipf
  double bias = -1.5;
  double spread = 0.5;  // standard deviation of a weight
  uint64_t seed = 1;
  bool ragged = false;      // fields missing at random
  bool values = false;      // values other than 1
  bool weights = false;     // weights other than 1
  bool duplicates = false;  // a row may occur twice in an example
  ExampleBlocksOptions blocks;

  uint32_t rows() const { return fields * field_rows; }
};

inline ExampleBlocks Planted(const PlantedOptions& o) {
  ExampleBlocks blocks(o.blocks);
  Rng rng(o.seed);
  for (size_t i = 0; i < o.examples; ++i) {
    std::vector<uint32_t> rows;
    std::vector<float> values;
    double logit = o.bias;
    for (uint32_t f = 0; f < o.fields; ++f) {
      if (o.ragged && rng.Bernoulli(0.3)) continue;
      const auto rank = static_cast<uint32_t>(
          std::pow(static_cast<double>(o.field_rows), rng.Uniform()) - 1);
      const uint32_t row = f * o.field_rows + rank;
      const float value =
          o.values ? static_cast<float>(rng.Uniform() * 2) : 1.0f;
      Rng truth(row);  // the same truth for every seed
      logit += truth.Normal() * o.spread * value;
      rows.push_back(row);
      values.push_back(value);
      if (o.duplicates && rng.Bernoulli(0.1)) {
        rows.push_back(row);
        values.push_back(value);
      }
    }
    const bool click = rng.Bernoulli(1 / (1 + std::exp(-logit)));
    const float weight =
        o.weights ? static_cast<float>(rng.Below(3)) * 0.75f : 1.0f;
    CHECK(blocks
              .Add(rows, o.values ? values : std::vector<float>(), click,
                   weight, i / 7)
              .ok());
  }
  CHECK(blocks.Finish().ok());
  return blocks;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TRAINER_PLANTED_H_
