// Golden examples: inputs that travel in the bundle with the answers that were
// computed when it was written.
#ifndef ADRANK_MODEL_GOLDEN_H_
#define ADRANK_MODEL_GOLDEN_H_

#include "absl/status/status.h"
#include "model/model_bundle.h"
#include "proto/model_manifest.pb.h"

namespace adrank {

// Replaces the answers by the bundle's. InvalidArgument, naming the example and
// the ad, when a logit is not finite.
absl::Status AnswerGolden(const ModelBundle& bundle,
                          v1::GoldenExamples* golden);

// Compares the bundle's answers with the stored ones bit for bit.
// FailedPrecondition, with the example, the ad and both values, when one
// differs: the files are whole, but this program computes something else than
// the one that wrote them. DataLoss when answers are missing or no example has
// an ad: nothing would be proven.
absl::Status ReplayGolden(const ModelBundle& bundle,
                          const v1::GoldenExamples& golden);

}  // namespace adrank

#endif  // ADRANK_MODEL_GOLDEN_H_
