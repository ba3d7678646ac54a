// What budgets and caps said when a decision was made, said again.
#ifndef ADRANK_SERVER_REPLAY_ADMISSION_H_
#define ADRANK_SERVER_REPLAY_ADMISSION_H_

#include <cstdint>
#include <vector>

#include "proto/events.pb.h"
#include "server/admission.h"

namespace adrank {

// For one call of RankingPipeline::Rank with the index that answered the
// decision. Takes nothing.
class ReplayAdmission : public Admission {
 public:
  // The decision must outlive this.
  explicit ReplayAdmission(const v1::Decision& decision)
      : decision_(decision) {}

  void Begin(const AdIndex& index, const v1::Context& context,
             AdmissionTerms* terms) override;
  void Reserve(const AdIndex& index, const v1::Context& context,
               const DecisionId& id, absl::Span<const AdmissionSlot> slots,
               std::vector<SlotRefusal>* refused) override;
  void Release(const DecisionId& id) override {}

 private:
  void SetGates(const AdIndex& index, AdmissionTerms* terms) const;
  void SetCaps(const AdIndex& index, AdmissionTerms* terms) const;

  const v1::Decision& decision_;
  int next_ = 0;  // of decision_.refused()
};

}  // namespace adrank

#endif  // ADRANK_SERVER_REPLAY_ADMISSION_H_
