// Plain loops compiled for several instruction sets, chosen at run time. Only
// for loops whose every element is a sequence of IEEE operations of its own:
// then all versions give the same bits (nothing is fused: -ffp-contract=off).
// Levels (AVX2, AVX-512), not models such as "arch=haswell": those are taken on
// exactly that CPU and no other.
#ifndef ADRANK_MODEL_KERNELS_CLONES_H_
#define ADRANK_MODEL_KERNELS_CLONES_H_

// Sanitizers start after the functions that choose a version.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ADRANK_CLONES \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define ADRANK_CLONES
#endif

#endif  // ADRANK_MODEL_KERNELS_CLONES_H_
