// A file system that fails on demand.
#ifndef ADRANK_TESTS_STORAGE_FAULTY_ENV_H_
#define ADRANK_TESTS_STORAGE_FAULTY_ENV_H_

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "rocksdb/env.h"
#include "rocksdb/file_system.h"

namespace adrank::testing {

struct Faults {
  std::atomic<bool> writes{false};
  std::atomic<bool> syncs{false};
  std::atomic<bool> full{false};
  // Not a fault: syncs do nothing, where a test is not about them.
  std::atomic<bool> skip_syncs{false};
  rocksdb::IOStatus OnWrite() const {
    if (full) return rocksdb::IOStatus::NoSpace("No space left on device");
    if (writes) return rocksdb::IOStatus::IOError("injected write error");
    return rocksdb::IOStatus::OK();
  }
  rocksdb::IOStatus OnSync() const {
    if (syncs) return rocksdb::IOStatus::IOError("injected sync error");
    return OnWrite();
  }
};

class FaultyFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyFile(std::unique_ptr<rocksdb::FSWritableFile> file,
             const Faults* faults)
      : FSWritableFileOwnerWrapper(std::move(file)), faults_(faults) {}
  using FSWritableFileOwnerWrapper::Append;
  rocksdb::IOStatus Append(const rocksdb::Slice& data,
                           const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus s = faults_->OnWrite();
    if (s.ok()) return FSWritableFileOwnerWrapper::Append(data, options, debug);
    // As a disk does: some of it is written before the error.
    FSWritableFileOwnerWrapper::Append(
        rocksdb::Slice(data.data(), data.size() / 2), options, debug)
        .PermitUncheckedError();
    return s;
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus s = faults_->OnSync();
    return s.ok() && !faults_->skip_syncs
               ? FSWritableFileOwnerWrapper::Sync(options, debug)
               : s;
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    const rocksdb::IOStatus s = faults_->OnSync();
    return s.ok() && !faults_->skip_syncs
               ? FSWritableFileOwnerWrapper::Fsync(options, debug)
               : s;
  }

 private:
  const Faults* const faults_;
};

class FaultyFileSystem : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultyFileSystem(const Faults* faults)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), faults_(faults) {}
  const char* Name() const override { return "FaultyFileSystem"; }
  rocksdb::IOStatus NewWritableFile(
      const std::string& path, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* debug) override {
    // The text log of RocksDB is written by another way.
    rocksdb::IOStatus s = faults_->OnWrite();
    if (s.ok()) {
      s = FileSystemWrapper::NewWritableFile(path, options, file, debug);
    }
    if (s.ok()) *file = std::make_unique<FaultyFile>(std::move(*file), faults_);
    return s;
  }

 private:
  const Faults* const faults_;
};

// An Env on it; `faults` must outlive the Env.
inline std::unique_ptr<rocksdb::Env> AFaultyEnv(const Faults* faults) {
  return rocksdb::NewCompositeEnv(std::make_shared<FaultyFileSystem>(faults));
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_STORAGE_FAULTY_ENV_H_
