// The inner loop of a scan over quantised vectors, for several instruction
// sets. Thread-safe.
//
// Components are bytes, vectors lie in blocks of 16 so that a sum needs no
// shuffling: byte 64 g + 4 j + c of a block is component 4 g + c of vector j,
// plus 128. Components past the last, and vectors past the last, are 0.
#ifndef ADRANK_SERVER_TRIGGER_VECTOR_KERNEL_H_
#define ADRANK_SERVER_TRIGGER_VECTOR_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace adrank {

inline constexpr size_t kVectorBlock = 16;

// dot_j = sum_c query_c x component_c of vector j is exact; vector j passes
// when
//   dot_j scale x scales[j] + residuals[j] residual_factor >= threshold.
struct VectorScan {
  const uint8_t* blocks;   // [blocks][groups][64], 64-byte aligned
  const float* scales;     // [blocks x 16]
  const float* residuals;  // [blocks x 16]
  size_t count;            // blocks
  size_t groups;           // of 4 components
  const int8_t* query;     // [groups x 4]
  int32_t bias;            // 128 x the sum of the query
  float scale;
  float residual_factor;
  float threshold;
};

// Writes the numbers (16 block + j) of those that pass, ascending; returns how
// many. `out` has room for count x 16. Versions agree but for the rounding of
// the inequality, in which a caller leaves slack.
using VectorScanFn = size_t (*)(const VectorScan& scan, uint32_t* out);

// nullptr when this machine lacks it. AVX-512 is that with VNNI.
VectorScanFn VectorScanFor(Isa isa);
size_t RunVectorScan(const VectorScan& scan, uint32_t* out);

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_VECTOR_KERNEL_H_
