// The loops of the auction that look at every ad: weights, scores, maxima.
#ifndef ADRANK_SERVER_RANK_SCORE_KERNELS_H_
#define ADRANK_SERVER_RANK_SCORE_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace adrank {

// x^power, the same bits on every machine (plain IEEE operations; libm's pow
// depends on the CPU). Relative error below 2^-45 for power in [-2, 2]. 0 to a
// positive power is 0, to the power of 0 it is 1.
// REQUIRES: x is 0 or in [2^-200, 2^200].
double Power(double x, double power);

// weight[i] = (per_impression[i] ? 1 : pctr[i]^alpha x scale) x quality[i].
// With alpha 1 and scale 1 exact: a product of two floats.
// REQUIRES: pctr in [0, 1], quality positive, alpha in [0, 2].
void Weights(const float* pctr, const float* quality,
             const float* per_impression, double alpha, double scale, size_t n,
             double* weight);

// score[i] = bid[i] x weight[i], rounded twice; -1 where bid[i] < reserve.
void Scores(const int64_t* bid, const double* weight, int64_t reserve, size_t n,
            double* score);
// The same with weight[i] = pctr[i].
void PlainScores(const int64_t* bid, const float* pctr, int64_t reserve,
                 size_t n, double* score);

// maximum[j] of score[j], score[j + lanes], score[j + 2 lanes]...
// REQUIRES: lanes <= n.
void LaneMaxima(const double* score, size_t n, size_t lanes, double* maximum);

// Sets reached[i] to 1 where score[i] is not negative.
void MarkReached(const double* score, size_t n, uint8_t* reached);

}  // namespace adrank

#endif  // ADRANK_SERVER_RANK_SCORE_KERNELS_H_
