#include "trainer/checkpoint.h"

#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/textproto.h"

namespace adrank {
namespace {

constexpr absl::string_view kMagic = "AXCKPT01";
constexpr size_t kHeadAt = 16;

absl::string_view Bytes(const uint64_t& word) {
  return {reinterpret_cast<const char*>(&word), sizeof(word)};
}

uint64_t Checksum(absl::Span<const absl::string_view> parts) {
  uint64_t sum = 0;
  for (const absl::string_view part : parts) sum = Hash64(part, sum);
  return sum;
}

}  // namespace

Checkpoints::Checkpoints(CheckpointOptions options)
    : options_(std::move(options)), written_(options_.clock->Now()) {}

absl::StatusOr<Checkpoint> Checkpoints::Read() {
  ASSIGN_OR_RETURN(file_, files::Mapped::Open(options_.path));
  absl::string_view rest = file_.bytes();
  const absl::Status damaged = absl::DataLossError("is damaged");
  if (rest.size() < kHeadAt + 8 || !absl::StartsWith(rest, kMagic)) {
    return damaged;
  }
  uint64_t head_bytes, checksum;
  memcpy(&head_bytes, rest.data() + kMagic.size(), 8);
  memcpy(&checksum, rest.data() + rest.size() - 8, 8);
  const absl::string_view start = rest.substr(0, kHeadAt);
  rest.remove_prefix(kHeadAt);
  rest.remove_suffix(8);
  if (head_bytes > rest.size()) return damaged;
  const absl::string_view head = rest.substr(0, head_bytes);
  rest.remove_prefix(head_bytes);
  Checkpoint read;
  if (!read.head.ParseFromArray(head.data(), static_cast<int>(head.size()))) {
    return damaged;
  }
  for (auto [part, bytes] :
       {std::pair(&read.meter, read.head.meter_bytes()),
        std::pair(&read.learner, read.head.learner_bytes()),
        std::pair(&read.best, read.head.best_bytes())}) {
    if (bytes > rest.size()) return damaged;
    *part = rest.substr(0, bytes);
    rest.remove_prefix(bytes);
  }
  if (!rest.empty() || checksum != Checksum({start, head, read.meter,
                                             read.learner, read.best})) {
    return damaged;
  }
  if (read.head.fingerprint() != options_.fingerprint) {
    return absl::FailedPreconditionError(
        "is of another configuration, log or live model");
  }
  return read;
}

std::optional<Checkpoint> Checkpoints::Load() {
  absl::StatusOr<Checkpoint> read = Read();
  if (read.ok()) return *std::move(read);
  if (!absl::IsNotFound(read.status())) {
    LOG(WARNING) << "checkpoint " << options_.path << " "
                 << read.status().message() << ": training starts anew";
  }
  Remove();
  return std::nullopt;
}

bool Checkpoints::Due() {
  ++blocks_;
  return options_.every_blocks > 0
             ? blocks_ >= options_.every_blocks
             : options_.clock->Now() - written_ >= options_.every;
}

void Checkpoints::Write(Checkpoint checkpoint) {
  v1::CheckpointHead& head = checkpoint.head;
  head.set_fingerprint(options_.fingerprint);
  head.set_meter_bytes(checkpoint.meter.size());
  head.set_learner_bytes(checkpoint.learner.size());
  head.set_best_bytes(checkpoint.best.size());
  const std::string text = head.SerializeAsString();
  const std::string start = absl::StrCat(kMagic, Bytes(text.size()));
  const uint64_t checksum = Checksum(
      {start, text, checkpoint.meter, checkpoint.learner, checkpoint.best});
  const absl::Status status = files::WriteAtomically(
      options_.path, {start, text, checkpoint.meter, checkpoint.learner,
                      checkpoint.best, Bytes(checksum)});
  if (!status.ok()) LOG(ERROR) << "no checkpoint: " << status.message();
  // After a failure too: a full disk is not asked again at every block.
  written_ = options_.clock->Now();
  blocks_ = 0;
}

void Checkpoints::Remove() {
  file_ = files::Mapped();
  const std::filesystem::path path(options_.path);
  const std::string dir = path.parent_path().string();
  const auto names = files::List(dir);
  if (!names.ok()) return;  // no directory, no file
  for (const std::string& name : *names) {
    if (name != path.filename() &&
        !absl::StartsWith(name,
                          absl::StrCat(path.filename().string(), ".tmp."))) {
      continue;
    }
    const absl::Status status = files::RemoveAll(files::Join(dir, name));
    if (!status.ok()) LOG(ERROR) << status.message();
  }
}

uint64_t TrainingFingerprint(v1::TrainerConfig config, absl::string_view seen,
                             const ExampleBlocks& training,
                             const ExampleBlocks& validation) {
  config.clear_data_dir();
  config.clear_model_dir();
  config.clear_threads();
  config.clear_max_memory_bytes();
  config.clear_checkpoint();
  uint64_t sum = Hash64(PrintTextProto(config));
  sum = Hash64(seen, sum);
  for (const ExampleBlocks* blocks : {&training, &validation}) {
    for (const uint64_t word : {blocks->examples(), blocks->clicks(),
                                blocks->entries(), blocks->checksum()}) {
      sum = Hash64(Bytes(word), sum);
    }
  }
  return sum;
}

}  // namespace adrank
