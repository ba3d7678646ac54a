#include "server/trigger/stemmer.h"

#include <libstemmer.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace adrank {

absl::StatusOr<std::unique_ptr<Stemmer>> Stemmer::Create(
    const std::string& language) {
  sb_stemmer* stemmer = sb_stemmer_new(language.c_str(), "UTF_8");
  if (stemmer == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", language, "\" is no language of Snowball"));
  }
  return std::unique_ptr<Stemmer>(new Stemmer(language, stemmer));
}

Stemmer::~Stemmer() { sb_stemmer_delete(stemmer_); }

absl::string_view Stemmer::Stem(absl::string_view word) {
  const sb_symbol* stem =
      sb_stemmer_stem(stemmer_, reinterpret_cast<const sb_symbol*>(word.data()),
                      static_cast<int>(word.size()));
  if (stem == nullptr) return word;  // out of memory
  return {reinterpret_cast<const char*>(stem),
          static_cast<size_t>(sb_stemmer_length(stemmer_))};
}

}  // namespace adrank
