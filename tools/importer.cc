#include "tools/importer.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status_macros.h"
#include "tools/batch_writer.h"
#include "tools/mapped_row.h"
#include "tools/row_reader.h"

namespace adrank {
namespace {

// Decisions of one batch: large enough to amortise the write, small enough to
// lose little when an import is stopped.
constexpr size_t kBatch = 4096;
// Positions of events are a byte.
constexpr int kMaxAds = 255;
constexpr uint64_t kProgressRows = 100000;
// Bad rows may cluster at the start of a file; a share of few rows says little.
constexpr uint64_t kMinRowsForShare = 1000;

DecisionId MakeId(int64_t time_ms, uint64_t hash) {
  return {static_cast<uint64_t>(time_ms), static_cast<uint16_t>(hash >> 48),
          static_cast<uint32_t>(hash >> 16)};
}

uint64_t MixHash(uint64_t hash) {
  return Hash64(
      absl::string_view(reinterpret_cast<const char*>(&hash), sizeof(hash)));
}

class Importer {
 public:
  Importer(const v1::ImportMapping& mapping, const ImportObserver& observer,
           RowMapper mapper, double total_bytes, EventLog* log,
           ImportCounts* counts)
      : mapping_(mapping),
        observer_(observer),
        max_bad_share_(mapping.max_bad_share() == 0 ? 0.01
                                                    : mapping.max_bad_share()),
        max_reported_(
            mapping.max_bad_reported() == 0 ? 20 : mapping.max_bad_reported()),
        total_bytes_(total_bytes),
        mapper_(std::move(mapper)),
        writer_(log),
        counts_(counts) {}

  absl::Status ImportFile(const std::string& path, bool clicks) {
    ASSIGN_OR_RETURN(
        const std::unique_ptr<RowReader> reader,
        RowReader::Open(path, mapping_,
                        clicks ? mapper_.ClickColumns() : mapper_.columns()));
    while (reader->Next(&row_)) {
      ++counts_->rows;
      absl::Status good = clicks ? mapper_.MapClick(row_, &mapped_)
                                 : mapper_.Map(row_, &mapped_);
      if (good.ok() && !clicks) good = CheckRequest();
      if (!good.ok()) {
        RETURN_IF_ERROR(CountBad(path, good));
      } else {
        RETURN_IF_ERROR(clicks ? AddClick() : AddImpression());
      }
      if (counts_->rows % kProgressRows == 0 && observer_.progress) {
        observer_.progress(*counts_, path, Share(*reader));
      }
    }
    done_bytes_ += static_cast<double>(reader->offset());
    return reader->status();
  }

  absl::Status Finish() {
    if (static_cast<double>(counts_->rows_bad) >
        max_bad_share_ * static_cast<double>(counts_->rows)) {
      return TooManyBad();
    }
    return writer_.Finish();
  }

 private:
  double Share(const RowReader& reader) const {
    const double bytes = done_bytes_ + static_cast<double>(reader.offset());
    return std::min(1.0, bytes / std::max(1.0, total_bytes_));
  }

  absl::Status CountBad(const std::string& path, const absl::Status& reason) {
    ++counts_->rows_bad;
    if (counts_->rows_bad <= max_reported_ && observer_.bad_row) {
      observer_.bad_row(absl::StrCat(path, ":", row_.line, ": ",
                                     std::string(reason.message())));
    }
    if (counts_->rows >= kMinRowsForShare &&
        static_cast<double>(counts_->rows_bad) >
            max_bad_share_ * static_cast<double>(counts_->rows)) {
      return TooManyBad();
    }
    return absl::OkStatus();
  }

  absl::Status TooManyBad() const {
    return absl::FailedPreconditionError(absl::StrCat(
        counts_->rows_bad, " of ", counts_->rows,
        " rows are bad, more than max_bad_share ", max_bad_share_,
        "; what was written before stays and is not repeated by a new import"));
  }

  // The row belongs to the request of the row before.
  bool Continues() {
    const auto& decisions = writer_.batch().decisions;
    return !mapped_.request_id.empty() && mapped_.id.empty() &&
           !decisions.empty() &&
           decisions.back().decision.request_id() == mapped_.request_id &&
           static_cast<int64_t>(decisions.back().id.ms) == mapped_.time_ms;
  }

  absl::Status CheckRequest() {
    if (Continues() &&
        writer_.batch().decisions.back().decision.ads_size() == kMaxAds) {
      return absl::InvalidArgumentError(absl::StrCat(
          "request ", mapped_.request_id, " has over ", kMaxAds, " rows"));
    }
    return absl::OkStatus();
  }

  absl::Status SubmitWhenFull() {
    const LogBatch& batch = writer_.batch();
    if (batch.decisions.size() < kBatch && batch.events.size() < 4 * kBatch) {
      return absl::OkStatus();
    }
    return writer_.Submit();
  }

  absl::Status AddImpression() {
    if (!Continues()) {
      // Only here, because the last decision may still grow.
      RETURN_IF_ERROR(SubmitWhenFull());
      if (!StartDecision()) {
        ++counts_->duplicate_impressions;
        return absl::OkStatus();
      }
    }
    LogBatch::DecisionRecord& record = writer_.batch().decisions.back();
    v1::Decision& decision = record.decision;
    v1::ServedAd* served = decision.add_ads();
    served->set_ad_hash(writer_.AddAd(mapped_.ad));
    served->set_position(decision.ads_size());
    served->set_placement_index(PlacementIndex(&decision));
    served->set_position_in_placement(mapped_.position);
    served->set_bid_micros(mapped_.bid_micros);
    served->set_price_micros(mapped_.price_micros);
    writer_.AddEvent(record.id, served->position(), v1::EVENT_TYPE_IMPRESSION,
                     mapped_.time_ms);
    ++counts_->impressions;
    if (mapped_.clicked) {
      writer_.AddEvent(record.id, served->position(), v1::EVENT_TYPE_CLICK,
                       mapped_.time_ms);
      ++counts_->labelled_clicks;
    }
    return absl::OkStatus();
  }

  uint32_t PlacementIndex(v1::Decision* decision) const {
    for (int i = decision->placement_ids_size() - 1; i >= 0; --i) {
      if (decision->placement_ids(i) == mapped_.placement) return i;
    }
    decision->add_placement_ids(mapped_.placement);
    return decision->placement_ids_size() - 1;
  }

  // False when the row's id was imported before in this run.
  bool StartDecision() {
    DecisionId id;
    if (!NewId(&id)) return false;
    LogBatch::DecisionRecord& record = writer_.AddDecision();
    record.id = id;
    record.decision.set_request_id(
        mapped_.request_id.empty() ? mapped_.id : mapped_.request_id);
    record.decision.mutable_context()->Swap(&mapped_.context);
    ++counts_->decisions;
    return true;
  }

  bool NewId(DecisionId* id) {
    uint64_t hash =
        mapped_.id.empty() ? Hash64(row_.raw, row_.line) : Hash64(mapped_.id);
    *id = MakeId(mapped_.time_ms, hash);
    if (mapping_.separate_clicks()) {
      return impressions_.emplace(hash, *id).second;
    }
    if (!mapped_.id.empty()) return IsNew(*id);
    // Different rows of one millisecond may not share an id.
    while (!IsNew(*id)) *id = MakeId(mapped_.time_ms, hash = MixHash(hash));
    return true;
  }

  // Exact for ids of one millisecond that stand together, as in any log that is
  // sorted by time.
  bool IsNew(const DecisionId& id) {
    if (id.ms != current_ms_) {
      current_ms_ = id.ms;
      current_.clear();
    }
    return current_.insert(uint64_t{id.node} << 32 | id.sequence).second;
  }

  absl::Status AddClick() {
    RETURN_IF_ERROR(SubmitWhenFull());
    const uint64_t hash = Hash64(mapped_.id);
    const auto impression = impressions_.find(hash);
    const bool known = impression != impressions_.end();
    const auto [click, first] = clicked_.emplace(
        hash, known ? impression->second : MakeId(mapped_.time_ms, hash));
    if (!first) {
      ++counts_->duplicate_clicks;
    } else if (known) {
      ++counts_->joined_clicks;
    } else {
      ++counts_->orphan_clicks;
    }
    writer_.AddEvent(click->second, 1, v1::EVENT_TYPE_CLICK, mapped_.time_ms);
    return absl::OkStatus();
  }

  const v1::ImportMapping& mapping_;
  const ImportObserver& observer_;
  const double max_bad_share_;
  const uint64_t max_reported_;
  const double total_bytes_;  // of all files
  double done_bytes_ = 0;     // of those read to their end
  RowMapper mapper_;
  BatchWriter writer_;
  ImportCounts* const counts_;

  Row row_;
  MappedRow mapped_;
  // Separate files: by hash of the row's id, what the impression's and the
  // first click's event are filed under.
  absl::flat_hash_map<uint64_t, DecisionId> impressions_;
  absl::flat_hash_map<uint64_t, DecisionId> clicked_;
  // Ids of the current millisecond.
  uint64_t current_ms_ = 0;
  absl::flat_hash_set<uint64_t> current_;
};

// Of a pipe or what else has no size: 0.
double TotalBytes(const ImportInput& input) {
  double bytes = 0;
  for (const auto* paths : {&input.impressions, &input.clicks}) {
    for (const std::string& path : *paths) {
      std::error_code error;
      const uintmax_t size = std::filesystem::file_size(path, error);
      if (!error) bytes += static_cast<double>(size);
    }
  }
  return bytes;
}

}  // namespace

absl::Status ValidateMapping(const v1::ImportMapping& mapping) {
  return RowMapper::Create(mapping).status();
}

absl::Status CheckInput(const v1::ImportMapping& mapping,
                        const ImportInput& input) {
  ASSIGN_OR_RETURN(const RowMapper mapper, RowMapper::Create(mapping));
  if (!input.clicks.empty() && !mapping.separate_clicks()) {
    return absl::InvalidArgumentError(
        "click files need a mapping with separate_clicks: true");
  }
  const auto check = [&](const std::vector<std::string>& paths,
                         const std::vector<std::string>& columns) {
    for (const std::string& path : paths) {
      // What is read from a pipe now is gone later.
      std::error_code error;
      if (std::filesystem::is_fifo(path, error)) continue;
      RETURN_IF_ERROR(RowReader::Open(path, mapping, columns).status());
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(check(input.impressions, mapper.columns()));
  if (input.clicks.empty()) return absl::OkStatus();
  return check(input.clicks, mapper.ClickColumns());
}

absl::Status Import(const v1::ImportMapping& mapping, const ImportInput& input,
                    const ImportObserver& observer, EventLog* log,
                    ImportCounts* counts) {
  ASSIGN_OR_RETURN(RowMapper mapper, RowMapper::Create(mapping));
  RETURN_IF_ERROR(CheckInput(mapping, input));
  Importer importer(mapping, observer, std::move(mapper), TotalBytes(input),
                    log, counts);
  for (const std::string& path : input.impressions) {
    RETURN_IF_ERROR(importer.ImportFile(path, /*clicks=*/false));
  }
  for (const std::string& path : input.clicks) {
    RETURN_IF_ERROR(importer.ImportFile(path, /*clicks=*/true));
  }
  return importer.Finish();
}

}  // namespace adrank
