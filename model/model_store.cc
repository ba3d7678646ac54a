#include "model/model_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "model/checksums.h"

namespace adrank {
namespace {

constexpr char kPointer[] = "published";
constexpr char kTemporaryPrefix[] = ".tmp-";
// Held by whoever publishes, for as long as it takes.
constexpr char kPublishLock[] = ".publish.lock";
// Held while the pointer is replaced: milliseconds.
constexpr char kPointerLock[] = ".pointer.lock";
constexpr absl::Duration kPointerLockWait = absl::Seconds(10);

// An flock that ends with the object or the process, however that dies.
class FileLock {
 public:
  // Unavailable when another process or thread still has it after `wait`.
  static absl::StatusOr<FileLock> Take(const std::string& path,
                                       absl::Duration wait) {
    FileLock lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (lock.fd_ < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
    }
    const absl::Time give_up = absl::Now() + wait;
    while (flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) {
        return absl::ErrnoToStatus(errno, absl::StrCat("lock ", path));
      }
      if (absl::Now() >= give_up) {
        return absl::UnavailableError(absl::StrCat(
            "another process is publishing: it holds the lock ", path));
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
    return lock;
  }
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock() {
    if (fd_ >= 0) close(fd_);
  }

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

// Versions are written one way only: "7", not "07" or "+7".
bool ParseVersion(absl::string_view text, int64_t* version) {
  return absl::SimpleAtoi(text, version) && *version >= 1 &&
         absl::StrCat(*version) == text;
}

bool IsDirectory(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

// REQUIRES: whoever writes files of this prefix holds a lock that we hold.
absl::Status RemoveLeftovers(const std::string& dir, absl::string_view prefix) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files::List(dir));
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, prefix)) continue;
    RETURN_IF_ERROR(files::RemoveAll(files::Join(dir, name)));
  }
  return absl::OkStatus();
}

// Creates the directory so that it survives a power failure.
absl::Status MakeDurableDirectory(const std::string& dir) {
  if (IsDirectory(dir)) return absl::OkStatus();
  const std::string parent = std::filesystem::path(dir).parent_path().string();
  if (!parent.empty()) RETURN_IF_ERROR(MakeDurableDirectory(parent));
  RETURN_IF_ERROR(files::MakeDirectories(dir));
  return files::SyncDirectory(parent.empty() ? "." : parent);
}

}  // namespace

ModelStore::ModelStore(const std::string& model_dir,
                       const std::string& model_name)
    : name_(model_name), dir_(files::Join(model_dir, model_name)) {}

absl::Status ModelStore::CheckName() const {
  if (IsPlainName(name_)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model name \"", name_,
                   "\" is not made of letters, digits, '.', '_', '-'"));
}

std::string ModelStore::VersionDir(int64_t version) const {
  return files::Join(dir_, absl::StrCat(version));
}

absl::StatusOr<std::vector<int64_t>> ModelStore::Versions() const {
  RETURN_IF_ERROR(CheckName());
  std::vector<int64_t> versions;
  auto names = files::List(dir_);
  if (absl::IsNotFound(names.status())) return versions;
  RETURN_IF_ERROR(names.status());
  for (const std::string& name : *names) {
    int64_t version = 0;
    if (ParseVersion(name, &version) && IsDirectory(VersionDir(version))) {
      versions.push_back(version);
    }
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

absl::StatusOr<int64_t> ModelStore::Published() const {
  RETURN_IF_ERROR(CheckName());
  const std::string path = files::Join(dir_, kPointer);
  auto text = files::Read(path);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(
        absl::StrCat("no model \"", name_, "\" was published: no ", path));
  }
  RETURN_IF_ERROR(text.status());
  int64_t version = 0;
  if (!absl::EndsWith(*text, "\n") ||
      !ParseVersion(absl::StripSuffix(*text, "\n"), &version)) {
    return absl::DataLossError(
        absl::StrCat(path, ": not \"<version>\" and a line feed"));
  }
  return version;
}

absl::Status ModelStore::SetPublished(int64_t version) const {
  RETURN_IF_ERROR(CheckName());
  if (version < 1 || !IsDirectory(VersionDir(version))) {
    return absl::NotFoundError(absl::StrCat(
        "no version ", version, " of model \"", name_, "\" in ", dir_));
  }
  ASSIGN_OR_RETURN(
      const FileLock lock,
      FileLock::Take(files::Join(dir_, kPointerLock), kPointerLockWait));
  RETURN_IF_ERROR(RemoveLeftovers(dir_, absl::StrCat(kPointer, ".")));
  return files::WriteAtomically(files::Join(dir_, kPointer),
                                absl::StrCat(version, "\n"));
}

absl::StatusOr<int64_t> ModelStore::NextVersion() const {
  ASSIGN_OR_RETURN(const std::vector<int64_t> versions, Versions());
  if (versions.empty()) return 1;
  if (versions.back() == std::numeric_limits<int64_t>::max()) {
    return absl::OutOfRangeError(
        absl::StrCat(dir_, ": no version above ", versions.back()));
  }
  return versions.back() + 1;
}

absl::Status ModelStore::Publish(
    const BundleContents& contents,
    const std::function<void(const char*)>& step) const {
  const auto before = [&](const char* name) {
    if (step) step(name);
  };
  RETURN_IF_ERROR(CheckName());
  const v1::ModelManifest& manifest = contents.manifest;
  if (manifest.model_name() != name_ || manifest.version() < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "version ", manifest.version(), " of model \"", manifest.model_name(),
        "\" is not a version >= 1 of model \"", name_, "\""));
  }
  before("lock");
  RETURN_IF_ERROR(MakeDurableDirectory(dir_));
  ASSIGN_OR_RETURN(
      const FileLock lock,
      FileLock::Take(files::Join(dir_, kPublishLock), absl::ZeroDuration()));
  before("sweep");
  RETURN_IF_ERROR(RemoveLeftovers(dir_, kTemporaryPrefix));
  const std::string target = VersionDir(manifest.version());
  if (files::Exists(target)) {
    return absl::AlreadyExistsError(absl::StrCat(target, " exists"));
  }
  before("write");
  const std::string temporary =
      files::Join(dir_, absl::StrCat(kTemporaryPrefix, manifest.version()));
  auto remove = absl::MakeCleanup([&] { (void)files::RemoveAll(temporary); });
  RETURN_IF_ERROR(WriteBundle(temporary, contents, step));
  before("verify");
  RETURN_IF_ERROR(Annotate(ModelBundle::Load(temporary).status(),
                           "what was written does not load"));
  before("rename");
  if (rename(temporary.c_str(), target.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("rename to ", target));
  }
  std::move(remove).Cancel();
  before("sync");
  RETURN_IF_ERROR(files::SyncDirectory(dir_));
  before("pointer");
  return Annotate(SetPublished(manifest.version()),
                  absl::StrCat(target, " is whole but not published"));
}

}  // namespace adrank
