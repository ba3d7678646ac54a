// Feature id -> table row, without collisions.
#ifndef ADRANK_MODEL_VOCABULARY_H_
#define ADRANK_MODEL_VOCABULARY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/model.h"

namespace adrank {

// An open-addressing table over mapped bytes: nothing is parsed or copied.
// Immutable and thread-safe. The bytes must outlive it.
class Vocabulary {
 public:
  // Row i belongs to ids[i]; ids are distinct and not 0. oov_rows[f] is the row
  // of an id of field f that is not known, or kNoRow. The bytes are a pure
  // function of the arguments.
  static std::string Serialize(absl::Span<const uint64_t> ids,
                               absl::Span<const uint32_t> oov_rows);

  // InvalidArgument when the bytes are not a whole vocabulary.
  static absl::StatusOr<Vocabulary> Parse(absl::string_view bytes);

  // Row of the id; else the field's out-of-vocabulary row; else kNoRow.
  uint32_t Row(uint16_t field, uint64_t id) const;

  // Ids and the rows beyond them that oov_rows name.
  uint32_t rows() const;
  // The ids in row order; for warm starts.
  std::vector<uint64_t> Ids() const;
  absl::Span<const uint32_t> oov_rows() const;

  void Lookup(const RequestFeatures& features, RequestRows* rows) const;

 private:
  Vocabulary() = default;
  struct Slot {
    uint64_t id;
    uint32_t row;
    uint32_t unused;
  };
  const Slot* slots_ = nullptr;  // [mask_ + 1], id 0 is empty
  uint64_t mask_ = 0;
  uint32_t ids_ = 0;
  uint32_t rows_ = 0;
  absl::Span<const uint32_t> oov_rows_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_VOCABULARY_H_
