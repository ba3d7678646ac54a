#include "tools/importer.h"

#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status_macros.h"
#include "tools/mapped_row.h"
#include "tools/row_reader.h"

namespace adrank {
namespace {

// Decisions of one batch: large enough to amortise the write, small enough to
// lose little when an import is stopped.
constexpr size_t kBatch = 4096;
constexpr uint64_t kProgressRows = 100000;
// Bad rows may cluster at the start of a file; a share of few rows says little.
constexpr uint64_t kMinRowsForShare = 1000;

DecisionId MakeId(int64_t time_ms, uint64_t hash) {
  return {static_cast<uint64_t>(time_ms), static_cast<uint16_t>(hash >> 48),
          static_cast<uint32_t>(hash >> 16)};
}

class Importer {
 public:
  Importer(const v1::ImportMapping& mapping, const ImportObserver& observer,
           RowMapper mapper, EventLog* log, ImportCounts* counts)
      : observer_(observer),
        separate_clicks_(mapping.separate_clicks()),
        max_bad_share_(mapping.max_bad_share() == 0 ? 0.01
                                                    : mapping.max_bad_share()),
        max_reported_(
            mapping.max_bad_reported() == 0 ? 20 : mapping.max_bad_reported()),
        mapper_(std::move(mapper)),
        reader_mapping_(mapping),
        log_(log),
        counts_(counts) {}

  absl::Status ImportFile(const std::string& path, bool clicks) {
    ASSIGN_OR_RETURN(
        const std::unique_ptr<RowReader> reader,
        RowReader::Open(path, reader_mapping_,
                        clicks ? mapper_.ClickColumns() : mapper_.columns()));
    Row row;
    MappedRow mapped;
    while (reader->Next(&row)) {
      ++counts_->rows;
      absl::Status good =
          clicks ? mapper_.MapClick(row, &mapped) : mapper_.Map(row, &mapped);
      if (good.ok())
        good = clicks ? AddClick(mapped) : AddImpression(row, mapped);
      if (!good.ok()) RETURN_IF_ERROR(CountBad(path, row.line, good));
      if (counts_->rows % kProgressRows == 0 && observer_.progress) {
        observer_.progress(*counts_, path);
      }
    }
    return reader->status();
  }

  absl::Status Finish() {
    if (static_cast<double>(counts_->rows_bad) >
        max_bad_share_ * static_cast<double>(counts_->rows)) {
      return TooManyBad();
    }
    RETURN_IF_ERROR(WriteBatch());
    return log_->Flush();
  }

 private:
  bool Full() const {
    return batch_.decisions.size() >= kBatch ||
           batch_.events.size() >= 4 * kBatch;
  }

  absl::Status CountBad(const std::string& path, int64_t line,
                        const absl::Status& reason) {
    ++counts_->rows_bad;
    if (counts_->rows_bad <= max_reported_ && observer_.bad_row) {
      observer_.bad_row(
          absl::StrCat(path, ":", line, ": ", std::string(reason.message())));
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

  absl::Status AddImpression(const Row& row, const MappedRow& mapped) {
    const bool continues =
        !mapped.request_id.empty() && !batch_.decisions.empty() &&
        mapped.id.empty() &&
        batch_.decisions.back().decision.request_id() == mapped.request_id &&
        static_cast<int64_t>(batch_.decisions.back().id.ms) == mapped.time_ms;
    if (continues && batch_.decisions.back().decision.ads_size() == 255) {
      return absl::InvalidArgumentError(
          absl::StrCat("request ", mapped.request_id, " has over 255 rows"));
    }
    if (!continues) {
      // Only here, because the last decision may still grow.
      if (Full()) RETURN_IF_ERROR(WriteBatch());
      if (!StartDecision(row, mapped)) return absl::OkStatus();  // a duplicate
    }
    LogBatch::DecisionRecord& record = batch_.decisions.back();
    EncodedAd ad = EncodeAd(mapped.ad);
    v1::ServedAd* served = record.decision.add_ads();
    served->set_ad_hash(ad.hash);
    served->set_position(record.decision.ads_size());
    served->set_position_in_placement(mapped.position);
    served->set_bid_micros(mapped.bid_micros);
    served->set_price_micros(mapped.price_micros);
    if (ads_in_batch_.insert(ad.hash).second) {
      batch_.ads.push_back(std::move(ad));
    }
    AddEvent(record.id, served->position(), v1::EVENT_TYPE_IMPRESSION,
             mapped.time_ms);
    ++counts_->impressions;
    if (mapped.clicked) {
      AddEvent(record.id, served->position(), v1::EVENT_TYPE_CLICK,
               mapped.time_ms);
      ++counts_->labelled_clicks;
    }
    return absl::OkStatus();
  }

  // False when the row's id was imported before in this run.
  bool StartDecision(const Row& row, const MappedRow& mapped) {
    uint64_t hash =
        mapped.id.empty() ? Hash64(row.raw, row.line) : Hash64(mapped.id);
    DecisionId id = MakeId(mapped.time_ms, hash);
    if (separate_clicks_) {
      if (!impressions_.emplace(hash, id).second) {
        ++counts_->duplicate_impressions;
        return false;
      }
    } else if (!mapped.id.empty()) {
      if (!IsNew(id)) {
        ++counts_->duplicate_impressions;
        return false;
      }
    } else {
      // Different rows of one millisecond may not share an id.
      while (!IsNew(id)) id = MakeId(mapped.time_ms, hash = MixHash(hash));
    }
    LogBatch::DecisionRecord record;
    record.id = id;
    record.decision.set_request_id(
        mapped.request_id.empty() ? mapped.id : mapped.request_id);
    *record.decision.mutable_context() = mapped.context;
    record.decision.add_placement_ids(mapped.placement);
    batch_.decisions.push_back(std::move(record));
    ++counts_->decisions;
    return true;
  }

  static uint64_t MixHash(uint64_t hash) {
    return Hash64(
        absl::string_view(reinterpret_cast<const char*>(&hash), sizeof(hash)));
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

  absl::Status AddClick(const MappedRow& mapped) {
    if (Full()) RETURN_IF_ERROR(WriteBatch());
    const uint64_t hash = Hash64(mapped.id);
    const auto impression = impressions_.find(hash);
    const bool known = impression != impressions_.end();
    const auto [click, first] = clicked_.emplace(
        hash, known ? impression->second : MakeId(mapped.time_ms, hash));
    if (!first) {
      ++counts_->duplicate_clicks;
    } else if (known) {
      ++counts_->joined_clicks;
    } else {
      ++counts_->orphan_clicks;
    }
    AddEvent(click->second, 1, v1::EVENT_TYPE_CLICK, mapped.time_ms);
    return absl::OkStatus();
  }

  void AddEvent(const DecisionId& id, uint32_t position, v1::EventType type,
                int64_t time_ms) {
    v1::Event event;
    event.set_decision_id(id.ToHex());
    event.set_position(position);
    event.set_type(type);
    event.set_time_ms(time_ms);
    batch_.events.push_back(std::move(event));
  }

  absl::Status WriteBatch() {
    RETURN_IF_ERROR(log_->Write(batch_));
    batch_ = LogBatch();
    ads_in_batch_.clear();
    return absl::OkStatus();
  }

  const ImportObserver& observer_;
  const bool separate_clicks_;
  const double max_bad_share_;
  const uint64_t max_reported_;
  RowMapper mapper_;
  const v1::ImportMapping& reader_mapping_;
  EventLog* const log_;
  ImportCounts* const counts_;

  LogBatch batch_;
  absl::flat_hash_set<std::string> ads_in_batch_;
  // Separate files: by hash of the row's id, what the impression's and the
  // first click's event are filed under.
  absl::flat_hash_map<uint64_t, DecisionId> impressions_;
  absl::flat_hash_map<uint64_t, DecisionId> clicked_;
  // Ids of the current millisecond.
  uint64_t current_ms_ = 0;
  absl::flat_hash_set<uint64_t> current_;
};

}  // namespace

absl::Status ValidateMapping(const v1::ImportMapping& mapping) {
  return RowMapper::Create(mapping).status();
}

absl::Status Import(const v1::ImportMapping& mapping, const ImportInput& input,
                    const ImportObserver& observer, EventLog* log,
                    ImportCounts* counts) {
  ASSIGN_OR_RETURN(RowMapper mapper, RowMapper::Create(mapping));
  if (!input.clicks.empty() && !mapping.separate_clicks()) {
    return absl::InvalidArgumentError(
        "click files need a mapping with separate_clicks: true");
  }
  Importer importer(mapping, observer, std::move(mapper), log, counts);
  for (const std::string& path : input.impressions) {
    RETURN_IF_ERROR(importer.ImportFile(path, /*clicks=*/false));
  }
  for (const std::string& path : input.clicks) {
    RETURN_IF_ERROR(importer.ImportFile(path, /*clicks=*/true));
  }
  return importer.Finish();
}

}  // namespace adrank
