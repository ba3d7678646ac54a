// Hot path (Clear, Put, Holds): no allocation after warm-up, no locks, no
// logging.
#include "server/trigger/predicates.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace adrank {
namespace {

template <typename T>
void Append(const T& value, std::string* key) {
  key->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

uint32_t PredicateSet::AddAttribute() {
  general_on_.push_back(0);
  return static_cast<uint32_t>(general_on_.size() - 1);
}

uint32_t PredicateSet::AddSymbol(uint32_t attribute) {
  CHECK_LT(attribute_of_.size(), Literal::kMaxNumber);
  attribute_of_.push_back(attribute);
  return static_cast<uint32_t>(attribute_of_.size() - 1);
}

Literal PredicateSet::InSet(uint32_t attribute, std::vector<uint32_t> symbols) {
  std::sort(symbols.begin(), symbols.end());
  symbols.erase(std::unique(symbols.begin(), symbols.end()), symbols.end());
  if (symbols.size() == 1) return Literal::OfSymbol(symbols[0]);
  std::string key = "s";
  Append(attribute, &key);
  for (const uint32_t symbol : symbols) Append(symbol, &key);
  const auto first = static_cast<uint32_t>(sets_.size());
  const auto last = static_cast<uint32_t>(first + symbols.size());
  const size_t before = generals_.size();
  const Literal literal =
      Intern(std::move(key), {attribute, false, first, last});
  if (generals_.size() > before) {
    sets_.insert(sets_.end(), symbols.begin(), symbols.end());
  }
  return literal;
}

Literal PredicateSet::Range(uint32_t attribute, double min, double max) {
  std::string key = "r";
  Append(attribute, &key);
  // -0 and 0 are one number: adding +0 turns the former into the latter.
  min += 0.0;
  max += 0.0;
  Append(min, &key);
  Append(max, &key);
  const auto first = static_cast<uint32_t>(bounds_.size());
  const size_t before = generals_.size();
  const Literal literal = Intern(std::move(key), {attribute, true, first, 0});
  if (generals_.size() > before) bounds_.push_back({min, max});
  return literal;
}

Literal PredicateSet::Intern(std::string key, const General& general) {
  const auto [it, added] = interned_.try_emplace(
      std::move(key), static_cast<uint32_t>(generals_.size()));
  if (added) {
    CHECK_LT(generals_.size(), Literal::kMaxNumber);
    generals_.push_back(general);
    general_on_[general.attribute] = 1;
  }
  return Literal::OfGeneral(it->second);
}

void PredicateSet::Clear(ResolvedContext* context) const {
  for (const uint32_t attribute : context->present) {
    context->attributes[attribute].symbols.clear();
    context->attributes[attribute].numbers.clear();
  }
  for (const uint32_t symbol : context->symbols) {
    context->symbol_bits[symbol / 64] = 0;
  }
  context->present.clear();
  context->symbols.clear();
  context->attributes.resize(attributes());
  context->symbol_bits.resize((symbols() + 63) / 64, 0);
  context->mask = RequirementMask();
}

void PredicateSet::Appear(uint32_t attribute, ResolvedContext* context) const {
  const ResolvedContext::Values& values = context->attributes[attribute];
  if (!values.symbols.empty() || !values.numbers.empty()) return;
  context->present.push_back(attribute);
  if (general_on_[attribute]) context->mask.Set(AttributeBit(attribute));
}

void PredicateSet::Put(uint32_t symbol, ResolvedContext* context) const {
  uint64_t& word = context->symbol_bits[symbol / 64];
  const uint64_t bit = uint64_t{1} << (symbol % 64);
  if ((word & bit) != 0) return;
  word |= bit;
  const uint32_t attribute = attribute_of_[symbol];
  Appear(attribute, context);
  context->attributes[attribute].symbols.push_back(symbol);
  context->symbols.push_back(symbol);
  context->mask.Set(SymbolBit(symbol));
}

void PredicateSet::PutNumber(uint32_t attribute, double number,
                             ResolvedContext* context) const {
  Appear(attribute, context);
  context->attributes[attribute].numbers.push_back(number);
}

bool PredicateSet::Contains(const General& general,
                            const ResolvedContext& context) const {
  const ResolvedContext::Values& values = context.attributes[general.attribute];
  if (!general.range) {
    const auto first = sets_.begin() + general.first;
    const auto last = sets_.begin() + general.last;
    return std::any_of(values.symbols.begin(), values.symbols.end(),
                       [&](uint32_t symbol) {
                         return std::binary_search(first, last, symbol);
                       });
  }
  const Bounds& bounds = bounds_[general.first];
  return std::any_of(
      values.numbers.begin(), values.numbers.end(),
      [&](double v) { return v >= bounds.min && v <= bounds.max; });
}

size_t PredicateSet::bytes() const {
  size_t keys = 0;
  for (const auto& [key, number] : interned_) keys += key.capacity();
  return attribute_of_.capacity() * sizeof(uint32_t) + general_on_.capacity() +
         generals_.capacity() * sizeof(General) +
         sets_.capacity() * sizeof(uint32_t) +
         bounds_.capacity() * sizeof(Bounds) + keys +
         interned_.capacity() * (sizeof(std::string) + sizeof(uint64_t) + 1);
}

}  // namespace adrank
