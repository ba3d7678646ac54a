// Which of many circles on the Earth contain a point.
#ifndef ADRANK_SERVER_TRIGGER_GEO_INDEX_H_
#define ADRANK_SERVER_TRIGGER_GEO_INDEX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace adrank {

// Mean radius of the Earth (IUGG), of proto/catalog.proto's sphere.
inline constexpr double kEarthRadiusKm = 6371.0088;

// Of two points in degrees, along the great circle.
double DistanceKm(double latitude_a, double longitude_a, double latitude_b,
                  double longitude_b);

// Points and circles are points and balls in space on and around the unit
// sphere: neither poles nor the antimeridian are special, and a circle contains
// a point when their chord, 2 sin(d / 2R), is no longer than its own. Balls are
// filed in a grid of cubes, at least as wide as they are, of a width that is a
// power of 2, hence in at most 8 cubes; a point looks into one cube a width in
// use (at most 32). Filled first, then const and thread-safe.
class GeoIndex {
 public:
  struct Circle {
    double latitude, longitude;  // degrees
    double radius_km;
    friend bool operator==(const Circle&, const Circle&) = default;
  };

  // Number of the circle, 0.. in the order of first use. REQUIRES: latitude in
  // [-90, 90], a finite longitude (modulo 360), radius_km > 0.
  uint32_t Add(const Circle& circle);

  size_t size() const { return circles_.size(); }
  const Circle& circle(uint32_t i) const { return circles_[i].shape; }

  // Calls f(number) for each circle that contains the point, once. Nothing
  // when the latitude is outside [-90, 90].
  template <typename F>
  void ForEachAround(double latitude, double longitude, F f) const {
    if (circles_.empty() || !(latitude >= -90 && latitude <= 90)) return;
    const Point point = OnSphere(latitude, longitude);
    for (const uint32_t i : everywhere_) f(i);
    for (const int level : levels_) {
      const auto it = cells_.find(CellOf(point, level));
      if (it == cells_.end()) continue;
      for (const uint32_t i : it->second) {
        if (Square(point, circles_[i].center) <= circles_[i].chord2) f(i);
      }
    }
  }

 private:
  using Point = std::array<double, 3>;
  struct Ball {
    Circle shape;
    Point center;
    double chord2;
  };
  struct Cell {
    int level;
    std::array<int32_t, 3> at;
    friend bool operator==(const Cell&, const Cell&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Cell& c) {
      return H::combine(std::move(h), c.level, c.at[0], c.at[1], c.at[2]);
    }
  };
  static Point OnSphere(double latitude, double longitude);
  static double Square(const Point& a, const Point& b) {
    const double x = a[0] - b[0], y = a[1] - b[1], z = a[2] - b[2];
    return x * x + y * y + z * z;
  }
  static Cell CellOf(const Point& point, int level);
  void File(uint32_t number, const Ball& ball);

  std::vector<Ball> circles_;
  std::vector<uint32_t> everywhere_;  // those that are the whole Earth
  std::vector<int> levels_;           // in use: cubes of width 2^-level
  absl::flat_hash_map<Cell, std::vector<uint32_t>> cells_;
  absl::flat_hash_map<std::array<double, 3>, uint32_t> numbers_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_GEO_INDEX_H_
