// Hot path: no allocation, no locks, no logging.
//
// Feature ids: 64-bit fingerprints that are stored in vocabularies, so none of
// these functions may ever change (tests/features/feature_id_test.cc freezes
// them). Ids are salted by the field's name: the same value in two fields has
// two ids; a field keeps its ids when other fields come and go.
#ifndef ADRANK_FEATURES_FEATURE_ID_H_
#define ADRANK_FEATURES_FEATURE_ID_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "base/rng.h"

namespace adrank {

// 0 marks an empty slot in tables of ids.
inline uint64_t NonZeroId(uint64_t id) { return id == 0 ? 1 : id; }

// The salt of a field or a cross.
inline uint64_t FieldSalt(absl::string_view name) { return Hash64(name); }

// A categorical value or a token: its bytes.
inline uint64_t TextId(uint64_t salt, absl::string_view value) {
  return NonZeroId(Hash64(value, salt));
}

// A bin, an hour, a weekday. Not the id of the number's text, so that a field
// that turns from CATEGORICAL to bins does not inherit weights of another
// meaning.
inline uint64_t BinId(uint64_t salt, int64_t bin) {
  return NonZeroId(MixBits(salt ^ MixBits(static_cast<uint64_t>(bin))));
}

// The one feature of a LOG1P or IDENTITY field.
inline uint64_t NumberId(uint64_t salt) { return NonZeroId(MixBits(~salt)); }

// A cross: CrossStart(salt), then CrossNext for each component's id in order,
// then CrossEnd. a x b and b x a differ.
inline uint64_t CrossStart(uint64_t salt) { return MixBits(salt); }
inline uint64_t CrossNext(uint64_t state, uint64_t id) {
  return MixBits(state * 0x9e3779b97f4a7c15ull + id);
}
inline uint64_t CrossEnd(uint64_t state) { return NonZeroId(state); }

}  // namespace adrank

#endif  // ADRANK_FEATURES_FEATURE_ID_H_
