// The directory of one model's versions:
//
//   <model_dir>/<model_name>/<version>/...    a bundle; complete or absent
//   <model_dir>/<model_name>/published        text "<version>\n": what to serve
//   <model_dir>/<model_name>/.tmp-<anything>  being written; never read
//   <model_dir>/<model_name>/.publish.lock    flock of the one publisher
//   <model_dir>/<model_name>/.pointer.lock    flock of who replaces `published`
//
// A version appears by rename after all its bytes are synced, and the pointer
// is replaced last, so that a reader sees a whole bundle or none, whatever is
// killed when.
#ifndef ADRANK_MODEL_MODEL_STORE_H_
#define ADRANK_MODEL_MODEL_STORE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/model_bundle.h"

namespace adrank {

// Holds only paths; any number may exist for one directory, in any threads and
// processes of one machine. Readers are safe against a publisher; a second
// publisher is refused while one is at work. A model name that is no plain name
// (checksums.h) is InvalidArgument everywhere.
class ModelStore {
 public:
  ModelStore(const std::string& model_dir, const std::string& model_name);

  std::string VersionDir(int64_t version) const;
  // Ascending; names that are no number are ignored. Empty when nothing is
  // there.
  absl::StatusOr<std::vector<int64_t>> Versions() const;
  // NotFound when nothing was published; DataLoss when the pointer is damaged.
  absl::StatusOr<int64_t> Published() const;
  // Durable when it returns. NotFound when there is no such version. May run
  // while a publisher works (who then has the last word); waits up to 10 s for
  // another SetPublished, then Unavailable.
  absl::Status SetPublished(int64_t version) const;
  // 1 + the largest version there is.
  absl::StatusOr<int64_t> NextVersion() const;

  // Writes the contents as `contents.manifest.version()` and publishes it:
  // temporary directory, checksums, sync, load and verify, rename, pointer.
  // Removes stale temporary directories first. `step` is called with the name
  // of each step before it is taken (for tests that die there).
  absl::Status Publish(const BundleContents& contents,
                       const std::function<void(const char*)>& step = {}) const;

 private:
  absl::Status CheckName() const;

  const std::string name_;
  const std::string dir_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_MODEL_STORE_H_
