// Where a training goes on after a crash.
#ifndef ADRANK_TRAINER_CHECKPOINT_H_
#define ADRANK_TRAINER_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/files.h"
#include "proto/checkpoint.pb.h"
#include "proto/trainer_config.pb.h"
#include "trainer/example_blocks.h"

namespace adrank {

// A training at a block's end.
//
//   file := magic "AXCKPT01", u64 bytes of head, head, meter, learner, best,
//           u64 checksum (XXH3-64 of each part in turn, seeded with that of the
//           parts before)
struct Checkpoint {
  v1::CheckpointHead head;
  absl::string_view meter;    // ProgressMeter::Save
  absl::string_view learner;  // Learner::Save
  absl::string_view best;     // that of the best pass; empty: none is kept
};

struct CheckpointOptions {
  std::string path;
  uint64_t fingerprint = 0;
  // Of time, or of blocks when that is not 0.
  absl::Duration every = absl::Seconds(300);
  uint32_t every_blocks = 0;
  const Clock* clock = Clock::Real();
  // Called after every block, when its checkpoint is written if one was due.
  std::function<void()> learnt = [] {};
};

// The checkpoint file of one training. Not thread-safe.
class Checkpoints {
 public:
  explicit Checkpoints(CheckpointOptions options);

  // The one to continue from, valid while this object lives and until Write.
  // One that is damaged or of another training is removed, and the log says so.
  std::optional<Checkpoint> Load();
  // Call after every block.
  bool Due();
  // Readers see the file before or this one whole. A failure is logged: it
  // does not end a training. Sets the head's fingerprint and sizes.
  void Write(Checkpoint checkpoint);
  void Learnt() const { options_.learnt(); }
  // Removes the file, and what a crash left of one being written.
  void Remove();

 private:
  absl::StatusOr<Checkpoint> Read();

  const CheckpointOptions options_;
  files::Mapped file_;
  absl::Time written_;
  uint32_t blocks_ = 0;  // since then
};

// Of the config without threads, directories and memory, of the windows and the
// live version that `seen` names, and of every packed byte.
uint64_t TrainingFingerprint(v1::TrainerConfig config, absl::string_view seen,
                             const ExampleBlocks& training,
                             const ExampleBlocks& validation);

}  // namespace adrank

#endif  // ADRANK_TRAINER_CHECKPOINT_H_
