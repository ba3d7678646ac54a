#include "trainer/example_blocks.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "model/model.h"

namespace adrank {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kMagic = 0x32425841;  // "AXB2"
constexpr uint32_t kHasValues = 1, kHasWeights = 2, kHasGroups = 4,
                   kDistinct = 8, kHasFields = 16, kAllFlags = 31;

struct Header {
  uint32_t magic = kMagic;
  uint32_t flags = 0;
  uint32_t examples = 0;
  uint32_t width = 0;
  uint64_t entries = 0;
  uint64_t bytes = 0;
  uint32_t row_limit = 0;
  uint32_t field_limit = 0;
  uint32_t zeros[4] = {};
  uint64_t checksum = 0;
};
static_assert(sizeof(Header) == 64);

uint64_t Padded(uint64_t bytes) { return (bytes + 63) & ~63ull; }

// Byte offsets of the parts; the last is the end of the block.
struct Layout {
  explicit Layout(const Header& h) {
    const uint64_t n = h.examples;
    rows = sizeof(Header);
    offsets = rows + Padded(h.entries * 4);
    values = offsets + (h.width == 0 ? Padded((n + 1) * 4) : 0);
    fields = values + (h.flags & kHasValues ? Padded(h.entries * 4) : 0);
    labels = fields + (h.flags & kHasFields ? Padded(h.entries * 2) : 0);
    weights = labels + Padded(n);
    groups = weights + (h.flags & kHasWeights ? Padded(n * 4) : 0);
    end = groups + (h.flags & kHasGroups ? Padded(n * 8) : 0);
  }
  uint64_t rows, offsets, values, fields, labels, weights, groups, end;
};

uint64_t Checksum(const char* block, uint64_t bytes) {
  const uint64_t body = Hash64({block + 64, bytes - 64});
  return Hash64({block, 56}, body);
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("example block: ", what));
}

absl::Status FileError(absl::string_view what, const std::string& path) {
  const int error = errno;
  const std::string message =
      absl::StrCat(path, ": ", what, ": ", strerror(error));
  return error == ENOSPC || error == EDQUOT
             ? absl::ResourceExhaustedError(message)
             : absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<ExampleBlock> ExampleBlock::Parse(std::vector<uint64_t> words) {
  ExampleBlock block;
  block.words_ = std::move(words);
  if (block.bytes() < sizeof(Header)) return Damaged("shorter than its header");
  Header h;
  memcpy(static_cast<void*>(&h), block.words_.data(), sizeof(h));
  if (h.magic != kMagic) return Damaged("not a block (wrong magic)");
  if (h.bytes != block.bytes()) {
    return Damaged(absl::StrCat(block.bytes(), " bytes instead of ", h.bytes));
  }
  const char* bytes = reinterpret_cast<const char*>(block.words_.data());
  if (h.checksum != Checksum(bytes, h.bytes)) return Damaged("wrong checksum");
  RETURN_IF_ERROR(block.Bind());
  return block;
}

absl::Status ExampleBlock::Bind() {
  Header h;
  memcpy(static_cast<void*>(&h), words_.data(), sizeof(h));
  if ((h.flags & ~kAllFlags) != 0) return Damaged("unknown flags");
  if (h.entries > h.bytes / 4 ||
      (h.width != 0 && h.entries != uint64_t{h.width} * h.examples)) {
    return Damaged("sizes do not fit together");
  }
  const Layout at(h);
  if (at.end != h.bytes) return Damaged("sizes do not fit together");
  const char* base = reinterpret_cast<const char*>(words_.data());
  rows_ = reinterpret_cast<const uint32_t*>(base + at.rows);
  if (h.width == 0) {
    offsets_ = reinterpret_cast<const uint32_t*>(base + at.offsets);
    if (offsets_[0] != 0 || offsets_[h.examples] != h.entries ||
        !std::is_sorted(offsets_, offsets_ + h.examples + 1)) {
      return Damaged("offsets do not rise from 0 to the entries");
    }
  }
  if (h.flags & kHasValues) {
    values_ = reinterpret_cast<const float*>(base + at.values);
  }
  if (h.flags & kHasFields) {
    fields_ = reinterpret_cast<const uint16_t*>(base + at.fields);
  } else if (h.width == 0 && h.entries != 0) {
    return Damaged("neither a width nor fields");
  }
  labels_ = reinterpret_cast<const uint8_t*>(base + at.labels);
  if (h.flags & kHasWeights) {
    weights_ = reinterpret_cast<const float*>(base + at.weights);
  }
  if (h.flags & kHasGroups) {
    groups_ = reinterpret_cast<const uint64_t*>(base + at.groups);
  }
  examples_ = h.examples;
  entries_ = h.entries;
  width_ = h.width;
  row_limit_ = h.row_limit;
  field_limit_ = h.field_limit;
  distinct_ = (h.flags & kDistinct) != 0;
  return absl::OkStatus();
}

// Columns of the block that is being filled. Values, fields, weights and groups
// stay empty until one differs from its default.
class ExampleBlocks::Builder {
 public:
  void Add(absl::Span<const uint32_t> rows, absl::Span<const float> values,
           absl::Span<const uint16_t> fields, bool label, float weight,
           uint64_t group) {
    const size_t begin = rows_.size();
    for (size_t e = 0; e < rows.size(); ++e) {
      if (rows[e] == kNoRow) continue;
      const float value = values.empty() ? 1.0f : values[e];
      if (value != 1.0f && values_.empty()) values_.assign(rows_.size(), 1.0f);
      if (value != 1.0f || !values_.empty()) values_.push_back(value);
      has_values_ |= value != 1.0f;
      AddField(fields.empty() ? static_cast<uint16_t>(e) : fields[e],
               rows_.size() - begin);
      rows_.push_back(rows[e]);
      row_limit_ = std::max(row_limit_, rows[e] + 1);
    }
    const uint32_t count = static_cast<uint32_t>(rows_.size() - begin);
    if (labels_.empty()) width_ = count;
    if (count != width_) {
      width_ = 0;
      if (!has_fields_) WriteFields();
    }
    if (distinct_) distinct_ = Distinct(rows_.data() + begin, count);
    if (weight != 1.0f && weights_.empty()) {
      weights_.assign(labels_.size(), 1.0f);
    }
    if (weight != 1.0f || !weights_.empty()) weights_.push_back(weight);
    if (group != 0 && groups_.empty()) groups_.assign(labels_.size(), 0);
    if (group != 0 || !groups_.empty()) groups_.push_back(group);
    labels_.push_back(label ? 1 : 0);
    offsets_.push_back(static_cast<uint32_t>(rows_.size()));
    has_weights_ |= weight != 1.0f;
    has_groups_ |= group != 0;
  }

  bool empty() const { return labels_.empty(); }
  uint64_t bytes() const {
    return (rows_.size() + values_.size() + weights_.size()) * 4 +
           fields_.size() * 2 + labels_.size() * (width_ == 0 ? 5 : 1) +
           groups_.size() * 8;
  }

  // The serialized block; leaves the builder empty.
  std::vector<uint64_t> Take() {
    Header h;
    h.examples = static_cast<uint32_t>(labels_.size());
    h.width = width_;
    h.entries = rows_.size();
    h.row_limit = row_limit_;
    h.field_limit = field_limit_;
    h.flags = (has_values_ ? kHasValues : 0) | (has_fields_ ? kHasFields : 0) |
              (has_weights_ ? kHasWeights : 0) |
              (has_groups_ ? kHasGroups : 0) | (distinct_ ? kDistinct : 0);
    const Layout at(h);
    h.bytes = at.end;
    std::vector<uint64_t> words(at.end / 8, 0);
    char* base = reinterpret_cast<char*>(words.data());
    const auto put = [base](uint64_t offset, const auto& column) {
      if (column.empty()) return;
      memcpy(base + offset, column.data(), column.size() * sizeof(column[0]));
    };
    put(at.rows, rows_);
    if (width_ == 0) put(at.offsets, offsets_);
    if (has_values_) put(at.values, values_);
    if (has_fields_) put(at.fields, fields_);
    put(at.labels, labels_);
    if (has_weights_) put(at.weights, weights_);
    if (has_groups_) put(at.groups, groups_);
    memcpy(base, &h, sizeof(h));
    h.checksum = Checksum(base, h.bytes);
    memcpy(base, &h, sizeof(h));
    Clear();
    return words;
  }

 private:
  // The field of the next entry, which is number `j` of its example.
  void AddField(uint16_t field, size_t j) {
    if (!has_fields_ && field != j) WriteFields();
    if (has_fields_) fields_.push_back(field);
    field_limit_ = std::max(field_limit_, uint32_t{field} + 1);
  }

  // Writes out the fields so far, implied until now, those of the example that
  // is being added included.
  void WriteFields() {
    has_fields_ = true;
    fields_.clear();
    for (size_t i = 0; i < offsets_.size(); ++i) {
      const size_t end =
          i + 1 < offsets_.size() ? offsets_[i + 1] : rows_.size();
      for (size_t e = offsets_[i]; e < end; ++e) {
        fields_.push_back(static_cast<uint16_t>(e - offsets_[i]));
      }
    }
  }

  // By a small open-addressing table that is never cleared: a slot is valid
  // when it bears the current epoch.
  bool Distinct(const uint32_t* rows, size_t count) {
    const size_t want = std::bit_ceil(std::max<size_t>(64, count * 2));
    if (seen_.size() < want) seen_.assign(want, {0, 0});
    ++epoch_;
    const size_t mask = seen_.size() - 1;
    for (size_t e = 0; e < count; ++e) {
      size_t i = (rows[e] * 0x9e3779b1u >> 7) & mask;
      while (seen_[i].epoch == epoch_ && seen_[i].row != rows[e]) {
        i = (i + 1) & mask;
      }
      if (seen_[i].epoch == epoch_) return false;
      seen_[i] = {epoch_, rows[e]};
    }
    return true;
  }

  void Clear() {
    rows_.clear();
    values_.clear();
    fields_.clear();
    weights_.clear();
    groups_.clear();
    labels_.clear();
    offsets_.assign(1, 0);
    width_ = row_limit_ = field_limit_ = 0;
    has_values_ = has_fields_ = has_weights_ = has_groups_ = false;
    distinct_ = true;
  }

  struct Seen {
    uint64_t epoch;
    uint32_t row;
  };
  std::vector<uint32_t> rows_, offsets_ = {0};
  std::vector<float> values_, weights_;
  std::vector<uint16_t> fields_;
  std::vector<uint64_t> groups_;
  std::vector<uint8_t> labels_;
  uint32_t width_ = 0;
  uint32_t row_limit_ = 0, field_limit_ = 0;
  bool has_values_ = false, has_fields_ = false;
  bool has_weights_ = false, has_groups_ = false;
  bool distinct_ = true;
  std::vector<Seen> seen_;
  uint64_t epoch_ = 0;
};

// A file without a name, gone with its descriptor.
class ExampleBlocks::SpillFile {
 public:
  static absl::StatusOr<std::unique_ptr<SpillFile>> Open(
      const std::string& dir) {
    int fd = open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
      std::string path = dir + "/.examplesXXXXXX";
      fd = mkostemp(path.data(), O_CLOEXEC);
      if (fd >= 0) unlink(path.c_str());
    }
    if (fd < 0) return FileError("cannot make a spill file", dir);
    return std::unique_ptr<SpillFile>(new SpillFile(dir, fd));
  }
  ~SpillFile() { close(fd_); }

  absl::Status Write(uint64_t offset, const char* data, uint64_t bytes) {
    while (bytes > 0) {
      const ssize_t n = pwrite(fd_, data, bytes, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return FileError("cannot write examples", dir_);
      data += n;
      offset += n;
      bytes -= n;
    }
    return absl::OkStatus();
  }

  absl::Status Read(uint64_t offset, char* data, uint64_t bytes) const {
    while (bytes > 0) {
      const ssize_t n = pread(fd_, data, bytes, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return FileError("cannot read examples", dir_);
      if (n == 0) return Damaged(absl::StrCat("file in ", dir_, " ends early"));
      data += n;
      offset += n;
      bytes -= n;
    }
    return absl::OkStatus();
  }

  void ReadAhead(uint64_t offset, uint64_t bytes) const {
    posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                  POSIX_FADV_WILLNEED);
  }

  // Gives the space back where the file system can.
  void Free(uint64_t offset, uint64_t bytes) const {
    fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              static_cast<off_t>(offset), static_cast<off_t>(bytes));
  }

 private:
  SpillFile(std::string dir, int fd) : dir_(std::move(dir)), fd_(fd) {}
  const std::string dir_;
  const int fd_;
};

ExampleBlocks::ExampleBlocks(const ExampleBlocksOptions& options)
    : options_(options), builder_(std::make_unique<Builder>()) {
  CHECK(options.block_bytes >= 1 << 10 && options.block_bytes <= 1 << 30);
}
ExampleBlocks::~ExampleBlocks() = default;
ExampleBlocks::ExampleBlocks(ExampleBlocks&&) noexcept = default;
ExampleBlocks& ExampleBlocks::operator=(ExampleBlocks&&) noexcept = default;

absl::Status ExampleBlocks::Add(absl::Span<const uint32_t> rows,
                                absl::Span<const float> values, bool label,
                                float weight, uint64_t group,
                                absl::Span<const uint16_t> fields) {
  if (builder_ == nullptr) {
    return absl::FailedPreconditionError("examples: Add after Finish");
  }
  if (!values.empty() && values.size() != rows.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "example: ", rows.size(), " rows but ", values.size(), " values"));
  }
  if (fields.empty() ? rows.size() > 65536 : fields.size() != rows.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "example: ", rows.size(), " rows but ", fields.size(), " fields"));
  }
  for (const float value : values) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("example: value ", value, " is not finite"));
    }
  }
  if (!std::isfinite(weight) || weight < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("example: weight ", weight, " is not finite and >= 0"));
  }
  // Of what is kept: where a block ends depends on its content alone.
  const uint64_t kept = rows.size() - static_cast<uint64_t>(std::count(
                                          rows.begin(), rows.end(), kNoRow));
  const uint64_t row_bytes = kept * 10 + 17;
  if (!builder_->empty() &&
      builder_->bytes() + row_bytes > options_.block_bytes) {
    RETURN_IF_ERROR(CloseBlock());
  }
  builder_->Add(rows, values, fields, label, weight, group);
  ++examples_;
  clicks_ += label ? 1 : 0;
  return absl::OkStatus();
}

absl::Status ExampleBlocks::Finish() {
  if (builder_ == nullptr) return absl::OkStatus();
  if (!builder_->empty()) RETURN_IF_ERROR(CloseBlock());
  builder_.reset();
  return absl::OkStatus();
}

absl::Status ExampleBlocks::CloseBlock() {
  std::vector<uint64_t> words = builder_->Take();
  const uint64_t bytes = words.size() * 8;
  Slot slot;
  slot.bytes = bytes;
  Header h;
  memcpy(static_cast<void*>(&h), words.data(), sizeof(h));
  entries_ += h.entries;
  checksum_ = Hash64(
      {reinterpret_cast<const char*>(&h.checksum), sizeof(h.checksum)},
      checksum_);
  if (options_.max_memory_bytes != 0 &&
      memory_bytes_ + bytes > options_.max_memory_bytes) {
    if (file_ == nullptr) {
      ASSIGN_OR_RETURN(file_, SpillFile::Open(options_.spill_dir));
    }
    slot.offset = spilled_bytes_;
    RETURN_IF_ERROR(file_->Write(
        slot.offset, reinterpret_cast<const char*>(words.data()), bytes));
    spilled_bytes_ += bytes;
  } else {
    ASSIGN_OR_RETURN(ExampleBlock block, ExampleBlock::Parse(std::move(words)));
    slot.block = std::make_shared<const ExampleBlock>(std::move(block));
    memory_bytes_ += bytes;
  }
  slots_.push_back(std::move(slot));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ExampleBlock>> ExampleBlocks::Read(
    size_t i) const {
  CHECK(builder_ == nullptr) << "Finish was not called";
  CHECK_LT(i, slots_.size());
  const Slot& slot = slots_[i];
  if (slot.block != nullptr) return slot.block;
  std::vector<uint64_t> words(slot.bytes / 8);
  RETURN_IF_ERROR(file_->Read(
      slot.offset, reinterpret_cast<char*>(words.data()), slot.bytes));
  absl::StatusOr<ExampleBlock> block = ExampleBlock::Parse(std::move(words));
  if (!block.ok()) {
    return Annotate(block.status(), absl::StrCat("spilled block ", i, " in ",
                                                 options_.spill_dir));
  }
  return std::make_shared<const ExampleBlock>(*std::move(block));
}

void ExampleBlocks::ReadAhead(size_t i) const {
  const Slot& slot = slots_[i];
  if (slot.block == nullptr) file_->ReadAhead(slot.offset, slot.bytes);
}

absl::Status ExampleBlocks::ForEach(
    absl::Span<const uint32_t> order,
    absl::FunctionRef<absl::Status(const ExampleBlock&)> visit) const {
  for (size_t i = 0; i < order.size(); ++i) {
    if (i + 1 < order.size()) ReadAhead(order[i + 1]);
    ASSIGN_OR_RETURN(const std::shared_ptr<const ExampleBlock> block,
                     Read(order[i]));
    RETURN_IF_ERROR(visit(*block));
  }
  return absl::OkStatus();
}

absl::Status ExampleBlocks::ForEach(
    absl::FunctionRef<absl::Status(const ExampleBlock&)> visit) const {
  std::vector<uint32_t> order(blocks());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
  return ForEach(order, visit);
}

absl::Status ExampleBlocks::Drain(
    absl::FunctionRef<absl::Status(const ExampleBlock&)> visit) {
  for (size_t i = 0; i < blocks(); ++i) {
    if (i + 1 < blocks()) ReadAhead(i + 1);
    ASSIGN_OR_RETURN(std::shared_ptr<const ExampleBlock> block, Read(i));
    Slot& slot = slots_[i];
    if (slot.block == nullptr) file_->Free(slot.offset, slot.bytes);
    slot.block.reset();
    RETURN_IF_ERROR(visit(*block));
  }
  *this = ExampleBlocks(options_);
  return absl::OkStatus();
}

std::vector<uint32_t> Permutation(size_t n, uint64_t seed) {
  std::vector<uint32_t> order(n);
  for (size_t i = 0; i < n; ++i) order[i] = static_cast<uint32_t>(i);
  Rng rng(seed);
  for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  return order;
}

}  // namespace adrank
