// Interned conditions on single attributes of a request, and what one request
// says about them.
#ifndef ADRANK_SERVER_TRIGGER_PREDICATES_H_
#define ADRANK_SERVER_TRIGGER_PREDICATES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace adrank {

// A set of 128 hashed requirements: a conjunction's are the symbols and
// attributes that it cannot do without, a request's those that it has. A
// conjunction with a bit that the request lacks is false; the reverse does not
// follow, because bits are shared.
struct RequirementMask {
  uint64_t low = 0, high = 0;

  void Set(uint32_t bit) {
    (bit < 64 ? low : high) |= uint64_t{1} << (bit & 63);
  }
  bool Within(const RequirementMask& other) const {
    return ((low & ~other.low) | (high & ~other.high)) == 0;
  }
};

// A predicate or its negation. The number is a symbol's (the condition that the
// attribute has this one value) or a general predicate's.
class Literal {
 public:
  // Numbers of symbols and of general predicates are below this.
  static constexpr uint32_t kMaxNumber = (1u << 29) - 1;

  static Literal OfSymbol(uint32_t symbol) { return Literal(symbol); }
  static Literal OfGeneral(uint32_t n) { return Literal(n | kGeneral); }

  uint32_t number() const { return bits_ & kMaxNumber; }
  bool negated() const { return (bits_ & kNegated) != 0; }
  bool general() const { return (bits_ & kGeneral) != 0; }
  // The end of a conjunction in an array of them.
  bool last() const { return (bits_ & kLast) != 0; }
  Literal Negation() const { return Literal(bits_ ^ kNegated); }
  Literal AsLast() const { return Literal(bits_ | kLast); }

  friend bool operator==(Literal, Literal) = default;
  friend bool operator<(Literal a, Literal b) { return a.bits_ < b.bits_; }

 private:
  static constexpr uint32_t kNegated = 1u << 31, kGeneral = 1u << 30,
                            kLast = 1u << 29;
  explicit Literal(uint32_t bits) : bits_(bits) {}
  uint32_t bits_;
};

// What one request says about the attributes that a PredicateSet knows. Reused
// from request to request, and from set to set.
struct ResolvedContext {
  struct Values {
    std::vector<uint32_t> symbols;  // known values, any order
    std::vector<double> numbers;
  };
  std::vector<Values> attributes;     // [attributes of the set]
  std::vector<uint32_t> present;      // attributes with a value here, distinct
  std::vector<uint32_t> symbols;      // of all attributes, distinct
  std::vector<uint64_t> symbol_bits;  // [symbols of the set] as a bitmap
  RequirementMask mask;
  // Of TargetingSet: the moment asked about.
  int64_t time_ms = 0;
  // Of TargetingSet: 2 * stamp + verdict, valid when of this request's stamp.
  std::vector<uint32_t> verdicts;
  uint32_t stamp = 0;
};

// An attribute has any number of values, each a symbol (an interned text that
// some predicate names) or a number. A predicate over an absent attribute is
// false, hence its negation true (proto/catalog.proto). Equal predicates have
// equal literals. Filled first, then const and thread-safe.
class PredicateSet {
 public:
  // Numbered 0.. in the order of creation.
  uint32_t AddAttribute();
  uint32_t AddSymbol(uint32_t attribute);

  // True when one of the attribute's symbols is among these; never when there
  // are none. REQUIRES: each is a symbol of the attribute.
  Literal InSet(uint32_t attribute, std::vector<uint32_t> symbols);
  // True when one of the attribute's numbers lies in [min, max].
  Literal Range(uint32_t attribute, double min, double max);

  // No InSet or Range follows: frees what only they need.
  void EndFilling() { interned_ = {}; }

  size_t attributes() const { return general_on_.size(); }
  size_t symbols() const { return attribute_of_.size(); }

  uint32_t attribute(Literal literal) const {
    return literal.general() ? generals_[literal.number()].attribute
                             : attribute_of_[literal.number()];
  }
  // Whether the literal is a Range; else it is an InSet.
  bool is_range(Literal literal) const {
    return literal.general() && generals_[literal.number()].range;
  }
  // Sorted. REQUIRES: literal is a general InSet.
  absl::Span<const uint32_t> set(Literal literal) const {
    const General& g = generals_[literal.number()];
    return {sets_.data() + g.first, g.last - g.first};
  }
  // REQUIRES: literal is a Range.
  bool InRange(Literal literal, double number) const {
    const Bounds& b = bounds_[generals_[literal.number()].first];
    return number >= b.min && number <= b.max;
  }
  // The bit that a request lacks only if the literal is false. REQUIRES:
  // literal is not negated.
  uint32_t RequirementBit(Literal literal) const {
    return literal.general() ? AttributeBit(attribute(literal))
                             : SymbolBit(literal.number());
  }

  // A request: Clear, then its values.
  void Clear(ResolvedContext* context) const;
  void Put(uint32_t symbol, ResolvedContext* context) const;
  void PutNumber(uint32_t attribute, double number,
                 ResolvedContext* context) const;

  bool Holds(Literal literal, const ResolvedContext& context) const {
    const uint32_t n = literal.number();
    const bool holds = literal.general()
                           ? Contains(generals_[n], context)
                           : (context.symbol_bits[n / 64] >> (n % 64) & 1) != 0;
    return holds != literal.negated();
  }

  size_t bytes() const;

 private:
  struct General {
    uint32_t attribute;
    bool range;
    uint32_t first, last;  // into sets_, or `first` into bounds_
  };
  struct Bounds {
    double min, max;
  };

  static uint32_t SymbolBit(uint32_t symbol) {
    // Fibonacci hashing: neighbouring numbers fall on distant bits.
    return static_cast<uint32_t>((symbol * 0x9e3779b97f4a7c15ull) >> 57);
  }
  static uint32_t AttributeBit(uint32_t attribute) {
    return static_cast<uint32_t>((~attribute * 0x9e3779b97f4a7c15ull) >> 57);
  }

  void Appear(uint32_t attribute, ResolvedContext* context) const;
  bool Contains(const General& general, const ResolvedContext& context) const;
  Literal Intern(std::string key, const General& general);

  std::vector<uint32_t> attribute_of_;  // [symbols]
  std::vector<uint8_t> general_on_;     // [attributes] has general predicates
  std::vector<General> generals_;
  std::vector<uint32_t> sets_;
  std::vector<Bounds> bounds_;
  absl::flat_hash_map<std::string, uint32_t> interned_;  // of generals_
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_PREDICATES_H_
