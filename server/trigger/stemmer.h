// Stems of words: what close variants of a keyword share.
#ifndef ADRANK_SERVER_TRIGGER_STEMMER_H_
#define ADRANK_SERVER_TRIGGER_STEMMER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sb_stemmer;

namespace adrank {

// A Snowball stemmer (libstemmer) of one language. Not thread-safe; equal words
// have equal stems in all of one language.
class Stemmer {
 public:
  // InvalidArgument for a language that Snowball does not know; its names are
  // "english", "german", "french"...
  static absl::StatusOr<std::unique_ptr<Stemmer>> Create(
      const std::string& language);
  ~Stemmer();

  const std::string& language() const { return language_; }

  // Of a word of features/text.h's tokenizer. Valid until the next call. Words
  // of other scripts are their own stems.
  absl::string_view Stem(absl::string_view word);

 private:
  Stemmer(const std::string& language, sb_stemmer* stemmer)
      : language_(language), stemmer_(stemmer) {}

  const std::string language_;
  sb_stemmer* const stemmer_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_STEMMER_H_
