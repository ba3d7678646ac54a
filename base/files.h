// Files, with errors that name the path and the reason.
#ifndef ADRANK_BASE_FILES_H_
#define ADRANK_BASE_FILES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace adrank::files {

// dir + "/" + name, with exactly one slash between.
std::string Join(absl::string_view dir, absl::string_view name);

// NotFound when there is no such file.
absl::StatusOr<std::string> Read(const std::string& path);

// Writes and syncs the file (not its directory).
absl::Status Write(const std::string& path, absl::string_view content);

// Readers see the old content or the new, never a part, after a crash too:
// writes a temporary file beside `path`, syncs, renames, syncs the directory.
absl::Status WriteAtomically(const std::string& path,
                             absl::string_view content);
// The same, of the parts one after the other.
absl::Status WriteAtomically(const std::string& path,
                             absl::Span<const absl::string_view> parts);

// Makes a rename or creation inside `dir` durable.
absl::Status SyncDirectory(const std::string& dir);

// Creates `dir` and its parents; OK when it exists.
absl::Status MakeDirectories(const std::string& dir);

// Names (not paths) in `dir`, sorted; NotFound when there is no such directory.
absl::StatusOr<std::vector<std::string>> List(const std::string& dir);

bool Exists(const std::string& path);

// Removes a file or a whole tree; OK when it is absent.
absl::Status RemoveAll(const std::string& path);

// A file mapped read-only. Movable; unmapped on destruction.
class Mapped {
 public:
  static absl::StatusOr<Mapped> Open(const std::string& path);
  Mapped() = default;
  Mapped(Mapped&& other) noexcept { *this = std::move(other); }
  Mapped& operator=(Mapped&& other) noexcept;
  ~Mapped();

  absl::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace adrank::files

#endif  // ADRANK_BASE_FILES_H_
