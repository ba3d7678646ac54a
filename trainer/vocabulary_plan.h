// Which ids get a row of the model, and which row.
#ifndef ADRANK_TRAINER_VOCABULARY_PLAN_H_
#define ADRANK_TRAINER_VOCABULARY_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "features/feature_extractor.h"
#include "model/vocabulary.h"
#include "trainer/example_blocks.h"
#include "trainer/expiry.h"
#include "trainer/id_table.h"

namespace adrank {

// [fields] examples an id of each field (or cross) must occur in.
std::vector<uint32_t> MinCounts(const FeatureExtractor& extractor,
                                uint32_t default_min_count);

// Rows are numbered by what was counted, never by who came first: the
// incumbent's ids that are not forgotten keep their order (warm start), then
// come the admitted ids by field, falling count and id, then one
// out-of-vocabulary row a field, if wanted. Constant after construction.
class VocabularyPlan {
 public:
  // `incumbent` is null for a cold start.
  VocabularyPlan(const IdTable& table, absl::Span<const uint32_t> min_counts,
                 bool oov_rows, const Vocabulary* incumbent,
                 Expiry expiry = {});

  // Vocabulary::Serialize's arguments.
  const std::vector<uint64_t>& ids() const { return ids_; }
  const std::vector<uint32_t>& oov_rows() const { return oov_rows_; }
  uint64_t rows() const { return rows_; }
  // [ids] the last day each was seen on.
  const std::vector<uint16_t>& seen() const { return seen_; }
  // Ids of the incumbent that were forgotten, and ids that it lacks.
  uint64_t forgotten() const { return forgotten_; }
  uint64_t added() const { return added_; }

  // kNoRow: not admitted.
  uint32_t RowOf(uint32_t handle) const {
    return row_of_[handle & (IdTable::kShards - 1)]
                  [handle >> IdTable::kShardBits];
  }
  // Row of the incumbent that each row continues, kNoRow for new ones. Empty
  // for a cold start.
  const std::vector<uint32_t>& sources() const { return sources_; }

 private:
  void KeepKnown(const IdTable& table, const Vocabulary& incumbent,
                 Expiry* expiry);
  void Admit(const IdTable& table, absl::Span<const uint32_t> min_counts,
             const Expiry& expiry);

  std::vector<uint64_t> ids_;
  std::vector<uint32_t> oov_rows_;
  uint64_t rows_ = 0;
  std::vector<std::vector<uint32_t>> row_of_;  // [shard][local]
  std::vector<uint32_t> sources_;
  std::vector<uint16_t> seen_;
  uint64_t forgotten_ = 0;
  uint64_t added_ = 0;
};

struct PackOptions {
  // Share of known ids that are replaced by their field's out-of-vocabulary
  // row, so that the row learns what an unknown id is worth. No effect where
  // the field has none.
  double oov_rate = 0;
  uint64_t seed = 0;
  // An id without a row uses its field's out-of-vocabulary row, if there is
  // one, instead of being left out: what serving does.
  bool unknown_to_oov = false;
};

// Appends `raw` (rows are handles) to *out with the rows of the plan; frees
// each block of it as it is packed. Ids that were not admitted are left out
// unless the options say otherwise: they train neither a row of their own nor
// the out-of-vocabulary row, whose weight must not become that of rare ids. What is packed is the same whether
// they are left out here or already in `raw`.
absl::Status PackExamples(ExampleBlocks raw, const IdTable& table,
                          const VocabularyPlan& plan,
                          const PackOptions& options, ExampleBlocks* out);

}  // namespace adrank

#endif  // ADRANK_TRAINER_VOCABULARY_PLAN_H_
