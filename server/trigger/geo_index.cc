#include "server/trigger/geo_index.h"

#include <algorithm>
#include <cmath>

namespace adrank {
namespace {

constexpr double kDegree = M_PI / 180;
// Cubes of 2^-28 are 2.4 cm wide; what is smaller shares them.
constexpr int kFinest = 28;

}  // namespace

double DistanceKm(double latitude_a, double longitude_a, double latitude_b,
                  double longitude_b) {
  // The haversine formula: exact for small distances.
  const double a = latitude_a * kDegree, b = latitude_b * kDegree;
  const double s = std::sin((b - a) / 2);
  const double t = std::sin((longitude_b - longitude_a) * kDegree / 2);
  const double h = s * s + std::cos(a) * std::cos(b) * t * t;
  return 2 * kEarthRadiusKm * std::asin(std::sqrt(std::min(1.0, h)));
}

GeoIndex::Point GeoIndex::OnSphere(double latitude, double longitude) {
  const double a = latitude * kDegree, b = longitude * kDegree;
  return {std::cos(a) * std::cos(b), std::cos(a) * std::sin(b), std::sin(a)};
}

GeoIndex::Cell GeoIndex::CellOf(const Point& point, int level) {
  Cell cell = {level, {}};
  for (int i = 0; i < 3; ++i) {
    cell.at[i] = static_cast<int32_t>(std::floor(std::ldexp(point[i], level)));
  }
  return cell;
}

uint32_t GeoIndex::Add(const Circle& circle) {
  // Adding +0 turns -0, the same place, into it.
  const auto [it, added] = numbers_.try_emplace(
      {circle.latitude + 0.0, circle.longitude + 0.0, circle.radius_km},
      static_cast<uint32_t>(circles_.size()));
  if (!added) return it->second;
  const double half = circle.radius_km / kEarthRadiusKm / 2;
  const double chord = 2 * std::sin(std::min(half, M_PI / 2));
  circles_.push_back(
      {circle, OnSphere(circle.latitude, circle.longitude), chord * chord});
  if (half >= M_PI / 2) {
    everywhere_.push_back(it->second);
  } else {
    File(it->second, circles_.back());
  }
  return it->second;
}

void GeoIndex::File(uint32_t number, const Ball& ball) {
  const double chord = std::sqrt(ball.chord2);
  int level = 0;
  while (level < kFinest && std::ldexp(1.0, -level - 1) >= 2 * chord) ++level;
  if (std::find(levels_.begin(), levels_.end(), level) == levels_.end()) {
    levels_.push_back(level);
  }
  // A hair more than the ball, for rounding, and no more than the sphere. The
  // widest cubes, of 1, are narrower than the largest balls: those are in up to
  // 27.
  const double reach = chord + 1e-12;
  Point low = ball.center, high = ball.center;
  for (int i = 0; i < 3; ++i) {
    low[i] = std::max(low[i] - reach, -1.0);
    high[i] = std::min(high[i] + reach, 1.0);
  }
  const Cell first = CellOf(low, level), last = CellOf(high, level);
  for (int32_t x = first.at[0]; x <= last.at[0]; ++x) {
    for (int32_t y = first.at[1]; y <= last.at[1]; ++y) {
      for (int32_t z = first.at[2]; z <= last.at[2]; ++z) {
        cells_[{level, {x, y, z}}].push_back(number);
      }
    }
  }
}

}  // namespace adrank
