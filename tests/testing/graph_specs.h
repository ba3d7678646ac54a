// Graphs for tests: every part on its own, then the published models.
#ifndef ADRANK_TESTS_TESTING_GRAPH_SPECS_H_
#define ADRANK_TESTS_TESTING_GRAPH_SPECS_H_

#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "google/protobuf/text_format.h"
#include "model/graph.h"
#include "proto/model_graph.pb.h"

namespace adrank::testing {

// Two fields of the context, one of the position (linear alone), three of the
// ad and crosses; not in the order of their columns.
inline FieldLayout ALayout() {
  return {{"ad", "user", "position", "query", "cross", "brand"},
          {false, true, false, true, false, false},
          {false, false, true, false, false, false}};
}

inline v1::ModelGraph GraphOf(const std::string& text) {
  v1::ModelGraph graph;
  CHECK(google::protobuf::TextFormat::ParseFromString(text, &graph)) << text;
  return graph;
}

struct NamedGraph {
  const char* name;
  const char* text;
};

inline std::vector<NamedGraph> Graphs() {
  return {
      {"Linear", "dim: 3 linear: true"},
      {"Fm", "dim: 5 linear: true pairwise: FM"},
      {"FmWithoutLinear", "dim: 17 pairwise: FM"},
      {"Fwfm", "dim: 3 linear: true pairwise: FWFM"},
      {"Fvfm", "dim: 5 linear: true pairwise: FVFM"},
      {"FvfmBesideAStream",
       "dim: 3 pairwise: FVFM streams { layers { units: 4 } }"},
      {"HeadOfEmbeddings", "dim: 3 streams {}"},
      {"SomeDims",
       "dim: 3 field_dims { field: 'ad' dim: 0 } "
       "field_dims { field: 'query' dim: 7 } "
       "field_dims { field: 'position' dim: 2 } "
       "streams { layers { kind: CROSS } layers { units: 5 } }"},
      {"ConstantGate",
       "dim: 3 streams { gate { kind: CONSTANT } layers { units: 5 } }"},
      {"FieldsGate",
       "dim: 3 streams { gate { kind: FIELDS fields: 'user' fields: 'ad' "
       "hidden: 6 hidden: 3 } layers { units: 5 } }"},
      {"FieldsGateWithoutHidden",
       "dim: 3 streams { gate { kind: FIELDS fields: 'brand' } }"},
      {"FieldGate",
       "dim: 3 streams { gate { kind: FIELD } layers { units: 5 } }"},
      {"FieldGateAndEmit",
       "dim: 3 streams { gate { kind: FIELD } emit: true "
       "layers { units: 5 } }"},
      {"Emit", "dim: 5 streams { emit: true layers { units: 7 } }"},
      {"DenseWithoutActivation",
       "dim: 3 streams { layers { units: 7 activation: NONE } "
       "layers { units: 1 activation: NONE } }"},
      {"WideDense",
       "dim: 4 streams { layers { units: 33 } layers { units: 15 } }"},
      {"BatchNorm",
       "dim: 3 streams { layers { units: 7 batch_norm: true } "
       "layers { units: 5 batch_norm: true activation: NONE } }"},
      {"Fint",
       "dim: 3 streams { layers { kind: FINT units: 10 } "
       "layers { kind: FINT units: 6 activation: NONE } }"},
      {"FintBatchNorm",
       "dim: 3 streams { layers { kind: FINT units: 10 batch_norm: true } "
       "layers { units: 3 } }"},
      {"Cross",
       "dim: 3 streams { layers { kind: CROSS } layers { kind: CROSS } }"},
      {"CrossBatchNorm",
       "dim: 3 streams { layers { kind: CROSS batch_norm: true } "
       "layers { kind: CROSS } }"},
      {"CrossAfterEmit",
       "dim: 3 streams { emit: true layers { kind: CROSS } }"},
      {"LowRankCross",
       "dim: 3 streams { layers { kind: CROSS rank: 2 } "
       "layers { kind: CROSS rank: 19 } }"},
      {"TriangularCross",
       "dim: 3 streams { layers { kind: CROSS_TRIANGULAR } "
       "layers { kind: CROSS_TRIANGULAR } layers { units: 4 } }"},
      {"FusionOfEmbeddings",
       "dim: 3 streams {} streams {} fusion { heads: 5 }"},
      {"Fusion",
       "dim: 3 streams { layers { units: 6 } } streams { layers { units: 9 } } "
       "streams { layers { units: 2 } } fusion { heads: 3 }"},
      {"MeanOfThree",
       "dim: 3 linear: true combine: MEAN streams { layers { units: 4 } } "
       "streams {} streams { layers { units: 3 } }"},
      // The published models.
      {"DeepFm",
       "dim: 5 linear: true pairwise: FM "
       "streams { layers { units: 9 } layers { units: 7 } }"},
      {"WideAndDeep", "dim: 5 linear: true streams { layers { units: 9 } }"},
      {"Ipnn", "dim: 5 streams { emit: true layers { units: 9 } }"},
      {"DcnV2Stacked",
       "dim: 3 streams { layers { kind: CROSS } layers { kind: CROSS } "
       "layers { units: 9 batch_norm: true } layers { units: 5 } }"},
      {"DcnV2Parallel",
       "dim: 3 streams { layers { kind: CROSS } layers { kind: CROSS } } "
       "streams { layers { units: 9 } layers { units: 5 } }"},
      {"FinalMlp",
       "dim: 3 streams { gate { kind: FIELDS fields: 'user' hidden: 5 } "
       "layers { units: 9 batch_norm: true } layers { units: 6 } } "
       "streams { gate { kind: FIELDS fields: 'ad' hidden: 5 } "
       "layers { units: 4 } } fusion { heads: 2 }"},
      {"Final",
       "dim: 3 combine: MEAN streams { gate { kind: FIELD } "
       "layers { kind: FINT units: 8 batch_norm: true } } "
       "streams { gate { kind: FIELD } layers { kind: FINT units: 6 } "
       "layers { kind: FINT units: 4 } }"},
  };
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TESTING_GRAPH_SPECS_H_
