#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace adrank::files {
namespace {

namespace fs = std::filesystem;

absl::Status Error(int error, absl::string_view doing,
                   const std::string& path) {
  return absl::ErrnoToStatus(error, absl::StrCat(doing, " ", path));
}

absl::Status WriteAndClose(int fd, absl::Span<const absl::string_view> parts,
                           const std::string& path) {
  auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  for (absl::string_view content : parts) {
    while (!content.empty()) {
      const ssize_t n = write(fd, content.data(), content.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Error(errno, "write", path);
      content.remove_prefix(static_cast<size_t>(n));
    }
  }
  if (fsync(fd) != 0) return Error(errno, "sync", path);
  return absl::OkStatus();
}

absl::Status WriteParts(const std::string& path,
                        absl::Span<const absl::string_view> parts) {
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return Error(errno, "create", path);
  return WriteAndClose(fd, parts, path);
}

}  // namespace

std::string Join(absl::string_view dir, absl::string_view name) {
  return absl::EndsWith(dir, "/") ? absl::StrCat(dir, name)
                                  : absl::StrCat(dir, "/", name);
}

absl::StatusOr<std::string> Read(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error(errno, "open", path);
  auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error(errno, "read", path);
    if (n == 0) return content;
    content.append(buffer, static_cast<size_t>(n));
  }
}

absl::Status Write(const std::string& path, absl::string_view content) {
  return WriteParts(path, absl::MakeConstSpan(&content, 1));
}

absl::Status WriteAtomically(const std::string& path,
                             absl::string_view content) {
  return WriteAtomically(path, absl::MakeConstSpan(&content, 1));
}

absl::Status WriteAtomically(const std::string& path,
                             absl::Span<const absl::string_view> parts) {
  const std::string temporary = absl::StrCat(path, ".tmp.", getpid());
  auto remove = absl::MakeCleanup([&] { unlink(temporary.c_str()); });
  RETURN_IF_ERROR(WriteParts(temporary, parts));
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return Error(errno, "rename to", path);
  }
  std::move(remove).Cancel();
  const std::string parent = fs::path(path).parent_path().string();
  return SyncDirectory(parent.empty() ? "." : parent);
}

absl::Status SyncDirectory(const std::string& dir) {
  const int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Error(errno, "open directory", dir);
  auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  if (fsync(fd) != 0) return Error(errno, "sync directory", dir);
  return absl::OkStatus();
}

absl::Status MakeDirectories(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) return Error(error.value(), "create directory", dir);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> List(const std::string& dir) {
  std::error_code error;
  fs::directory_iterator it(dir, error);
  if (error) return Error(error.value(), "list", dir);
  std::vector<std::string> names;
  for (; it != fs::directory_iterator(); it.increment(error)) {
    if (error) return Error(error.value(), "list", dir);
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

absl::Status RemoveAll(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) return Error(error.value(), "remove", path);
  return absl::OkStatus();
}

absl::StatusOr<Mapped> Mapped::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error(errno, "open", path);
  auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  struct stat info;
  if (fstat(fd, &info) != 0) return Error(errno, "stat", path);
  Mapped mapped;
  mapped.size_ = static_cast<size_t>(info.st_size);
  if (mapped.size_ == 0) return mapped;
  void* data = mmap(nullptr, mapped.size_, PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    const int map_error = errno;
    mapped.size_ = 0;
    return Error(map_error, "map", path);
  }
  mapped.data_ = static_cast<const char*>(data);
  return mapped;
}

Mapped& Mapped::operator=(Mapped&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Mapped::~Mapped() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

}  // namespace adrank::files
