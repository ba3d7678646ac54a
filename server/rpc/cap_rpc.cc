#include "server/rpc/cap_rpc.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "server/rpc/rpc_scope.h"

namespace adrank {
namespace {

v1::EntityType TypeOf(CapLevel level) {
  return level == CapLevel::kCampaign  ? v1::ENTITY_TYPE_CAMPAIGN
         : level == CapLevel::kAdGroup ? v1::ENTITY_TYPE_AD_GROUP
                                       : v1::ENTITY_TYPE_AD;
}

std::string IdOf(const AdIndex& index, const CappedEntity& entity) {
  return entity.level == CapLevel::kCampaign
             ? std::string(index.campaign_id(entity.number))
         : entity.level == CapLevel::kAdGroup
             ? std::string(index.group_id(entity.number))
             : std::string(index.ad_id(entity.number));
}

// When the oldest impressions that are too many have left the window, or their
// reservations have run out.
int64_t FreeMs(absl::Span<const CapRecord> records, const CompiledCap& cap,
               const CapTimes& times) {
  std::vector<std::pair<int64_t, uint32_t>> leave;
  for (const CapRecord& r : records) {
    if (!Counts(r, times)) continue;
    int64_t ms = r.ms + cap.window_ms;
    if (!r.confirmed) ms = std::min(ms, r.ms + times.reservation_ms);
    if (ms > times.now_ms) leave.emplace_back(ms, r.count);
  }
  std::sort(leave.begin(), leave.end());
  uint64_t counted = 0;
  for (const auto& [ms, count] : leave) counted += count;
  int64_t free_ms = 0;
  for (const auto& [ms, count] : leave) {
    if (counted < cap.impressions) break;
    counted -= count;
    free_ms = ms;
  }
  return free_ms;
}

v1::EntityCaps Describe(const AdIndex& index,
                        absl::Span<const CapRecord> records,
                        const CapTimes& times) {
  v1::EntityCaps out;
  for (const CapRecord& r : records) {
    out.set_last_ms(std::max(out.last_ms(), r.ms));
    if (r.confirmed) {
      out.set_impressions(out.impressions() + r.count);
    } else if (Counts(r, times)) {
      out.set_reserved(out.reserved() + 1);
    } else {
      out.set_expired(out.expired() + 1);
    }
  }
  const CappedEntity* entity = index.caps().Find(records[0].key);
  if (entity == nullptr) return out;
  out.set_type(TypeOf(entity->level));
  out.set_id(IdOf(index, *entity));
  for (const CompiledCap& cap : index.caps().caps(*entity)) {
    v1::CapState* state = out.add_caps();
    state->set_impressions(cap.impressions);
    state->set_window_seconds(cap.window_ms / 1000);
    state->set_counted(
        CountAround(records, times.now_ms, cap.window_ms, times));
    state->set_free_ms(FreeMs(records, cap, times));
  }
  return out;
}

}  // namespace

v1::UserCaps DescribeCaps(const AdIndex& index, const CapRow& row,
                          const CapTimes& times) {
  std::vector<v1::EntityCaps> entities;
  for (size_t i = 0; i < row.size();) {
    const absl::Span<const CapRecord> records = RecordsOf(row, row[i].key);
    i += records.size();
    entities.push_back(Describe(index, records, times));
  }
  std::sort(entities.begin(), entities.end(), [](const auto& a, const auto& b) {
    return std::make_tuple(a.id().empty(), a.type(), a.id(), a.last_ms()) <
           std::make_tuple(b.id().empty(), b.type(), b.id(), b.last_ms());
  });
  v1::UserCaps out;
  for (v1::EntityCaps& entity : entities) {
    *out.add_entities() = std::move(entity);
  }
  return out;
}

grpc::Status CapRpc::GetUser(grpc::ServerContext*,
                             const v1::GetUserCapsRequest* request,
                             v1::UserCaps* response) {
  const RpcScope scope(Rpc::kGetUserCaps, metrics_);
  if (request->user_id().empty()) {
    return scope.Done(absl::InvalidArgumentError("user_id: required"));
  }
  const absl::StatusOr<CapRow> row = caps_->Lookup(request->user_id());
  if (absl::IsDataLoss(row.status())) {
    response->set_damaged(true);
    return scope.Done(absl::OkStatus());
  }
  if (!row.ok()) return scope.Done(row.status());
  const std::shared_ptr<const ServingSnapshot> serving = state_->Current();
  *response = DescribeCaps(*serving->index, *row, caps_->Now());
  return scope.Done(absl::OkStatus());
}

grpc::Status CapRpc::ForgetUser(grpc::ServerContext*,
                                const v1::ForgetUserCapsRequest* request,
                                v1::ForgetUserCapsResponse*) {
  const RpcScope scope(Rpc::kForgetUserCaps, metrics_);
  if (request->user_id().empty()) {
    return scope.Done(absl::InvalidArgumentError("user_id: required"));
  }
  return scope.Done(caps_->Forget(request->user_id()));
}

}  // namespace adrank
