// Memory for large arrays that are read at random.
#ifndef ADRANK_BASE_HUGE_PAGES_H_
#define ADRANK_BASE_HUGE_PAGES_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace adrank {

// std::allocator, except that blocks of several megabytes are aligned to 2 MB
// and ask the kernel for huge pages (as far as it grants them on request): one
// entry of the TLB then covers 512 times as much, and filling an array faults
// as much less often.
template <typename T>
class HugePageAllocator {
 public:
  using value_type = T;

  HugePageAllocator() = default;
  template <typename U>
  HugePageAllocator(const HugePageAllocator<U>&) {}  // NOLINT: converts

  T* allocate(size_t n) {
    if (n * sizeof(T) < kLarge) return std::allocator<T>().allocate(n);
    const size_t bytes = (n * sizeof(T) + kPage - 1) / kPage * kPage;
    void* memory = std::aligned_alloc(kPage, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    madvise(memory, bytes, MADV_HUGEPAGE);  // advice: may fail
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t n) {
    if (n * sizeof(T) < kLarge) {
      std::allocator<T>().deallocate(memory, n);
    } else {
      std::free(memory);
    }
  }

  friend bool operator==(HugePageAllocator, HugePageAllocator) { return true; }

 private:
  static constexpr size_t kPage = size_t{2} << 20;
  static constexpr size_t kLarge = 2 * kPage;
};

template <typename T>
using HugeVector = std::vector<T, HugePageAllocator<T>>;

}  // namespace adrank

#endif  // ADRANK_BASE_HUGE_PAGES_H_
