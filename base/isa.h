// Instruction sets that hot loops are compiled for; the choice is made at run
// time, so that one binary runs everywhere.
#ifndef ADRANK_BASE_ISA_H_
#define ADRANK_BASE_ISA_H_

namespace adrank {

enum class Isa { kPortable, kAvx2, kAvx512 };

}  // namespace adrank

#endif  // ADRANK_BASE_ISA_H_
