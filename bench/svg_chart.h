// A page of line charts over one time axis, as an SVG that a browser shows.
#ifndef ADRANK_BENCH_SVG_CHART_H_
#define ADRANK_BENCH_SVG_CHART_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace adrank {

struct SvgLine {
  std::string label;
  std::string color;  // "#1f6feb"
  bool dashed = false;
  bool filled = false;    // down to the bottom
  std::vector<double> y;  // one for each x of the page
};

struct SvgPanel {
  std::string title;
  std::string unit;  // "%": values are shares
  // Of the y axis, higher values are cut; 0: above the greatest value.
  double top = 0;
  std::vector<SvgLine> lines;
  int height = 180;
};

struct SvgPage {
  std::string title, subtitle;
  std::vector<double> x;  // hours, ascending
  // Labelled lines at x: "day 3".
  std::vector<std::pair<double, std::string>> marks;
  std::vector<SvgPanel> panels;
};

class SvgWriter {
 public:
  explicit SvgWriter(const SvgPage& page) : page_(page) {}

  std::string Write() {
    int height = kHead;
    for (const SvgPanel& panel : page_.panels) height += panel.height + kGap;
    height += 30;
    absl::StrAppendFormat(
        &out_,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
        "viewBox=\"0 0 %d %d\" font-family=\"Helvetica,Arial,sans-serif\" "
        "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"#ffffff\"/>\n",
        kWidth, height, kWidth, height);
    Text(kLeft, 26, page_.title, "font-size=\"17\" font-weight=\"bold\"");
    Text(kLeft, 46, page_.subtitle, "fill=\"#57606a\"");
    int top = kHead;
    for (size_t i = 0; i < page_.panels.size(); ++i) {
      Panel(page_.panels[i], top, i + 1 == page_.panels.size());
      top += page_.panels[i].height + kGap;
    }
    absl::StrAppend(&out_, "</svg>\n");
    return std::move(out_);
  }

  // The next number with few digits.
  static double RoundUp(double v) {
    if (v <= 0) return 1;
    const double unit = std::pow(10, std::floor(std::log10(v)));
    for (const double m : {1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0}) {
      if (m * unit >= v) return m * unit;
    }
    return 10 * unit;
  }

 private:
  static constexpr int kWidth = 1100, kLeft = 70, kRight = 30, kHead = 88,
                       kGap = 46;

  void Text(double x, double y, const std::string& text,
            const std::string& style) {
    absl::StrAppendFormat(
        &out_, "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, style,
        absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}}));
  }

  double X(double hour) const {
    const double from = page_.x.front(), to = page_.x.back();
    return kLeft + (hour - from) / (to - from) * (kWidth - kLeft - kRight);
  }

  void Axes(const SvgPanel& panel, int top, double most, bool last) {
    const double bottom = top + panel.height;
    constexpr int kTicks = 4;
    for (int i = 0; i <= kTicks; ++i) {
      const double v = most * i / kTicks;
      const double y = bottom - panel.height * static_cast<double>(i) / kTicks;
      absl::StrAppendFormat(&out_,
                            "<path d=\"M%d %.1fH%d\" stroke=\"#d8dee4\"/>\n",
                            kLeft, y, kWidth - kRight);
      Text(kLeft - 8, y + 4,
           panel.unit == "%" ? absl::StrFormat("%.3g %%", 100 * v)
           : most >= 100     ? absl::StrFormat("%.0f", v)
                             : absl::StrFormat("%.3g", v),
           "text-anchor=\"end\" fill=\"#57606a\"");
    }
    const double step = page_.x.back() - page_.x.front() > 60 ? 6 : 3;
    for (double h = std::floor(page_.x.front() / step) * step;
         h <= page_.x.back() + 1e-9; h += step) {
      const double x = X(std::max(h, page_.x.front()));
      absl::StrAppendFormat(
          &out_, "<path d=\"M%.1f %.1fv5\" stroke=\"#8c959f\"/>\n", x, bottom);
      if (last) {
        Text(x, bottom + 19, absl::StrFormat("%g h", h),
             "text-anchor=\"middle\" fill=\"#57606a\"");
      }
    }
    for (const auto& [hour, label] : page_.marks) {
      absl::StrAppendFormat(&out_,
                            "<path d=\"M%.1f %dV%.1f\" stroke=\"#8c959f\" "
                            "stroke-dasharray=\"2 3\"/>\n",
                            X(hour), top, bottom);
      Text(X(hour) + 4, top + 12, label, "fill=\"#57606a\" font-size=\"11\"");
    }
  }

  void Panel(const SvgPanel& panel, int top, bool last) {
    double most = panel.top;
    if (most == 0) {
      for (const SvgLine& line : panel.lines) {
        for (const double v : line.y) most = std::max(most, v);
      }
      most = RoundUp(most);
    }
    Text(kLeft, top - 8, panel.title, "font-weight=\"bold\"");
    Axes(panel, top, most, last);
    double legend = kWidth - kRight;
    for (auto line = panel.lines.rbegin(); line != panel.lines.rend(); ++line) {
      legend -= 7.0 * static_cast<double>(line->label.size()) + 40;
      absl::StrAppendFormat(
          &out_,
          "<path d=\"M%.1f %dh22\" stroke=\"%s\" stroke-width=\"2.5\" "
          "%s/>\n",
          legend, top - 12, line->color,
          line->dashed ? "stroke-dasharray=\"6 4\"" : "");
      Text(legend + 27, top - 8, line->label, "fill=\"#24292f\"");
    }
    for (const SvgLine& line : panel.lines) Line(line, panel, top, most);
  }

  void Line(const SvgLine& line, const SvgPanel& panel, int top, double most) {
    const double bottom = top + panel.height;
    std::string path;
    for (size_t i = 0; i < line.y.size(); ++i) {
      const double v = std::clamp(line.y[i] / most, 0.0, 1.0);
      absl::StrAppendFormat(&path, "%c%.1f %.1f", i == 0 ? 'M' : 'L',
                            X(page_.x[i]), bottom - v * panel.height);
    }
    if (line.filled) {
      absl::StrAppendFormat(&out_,
                            "<path d=\"%sL%.1f %.1fL%.1f %.1fZ\" fill=\"%s\" "
                            "fill-opacity=\"0.25\"/>\n",
                            path, X(page_.x.back()), bottom, X(page_.x.front()),
                            bottom, line.color);
    }
    absl::StrAppendFormat(
        &out_,
        "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" %s/>\n",
        path, line.color, line.filled ? 1.0 : 1.8,
        line.dashed ? "stroke-dasharray=\"6 4\"" : "");
  }

  const SvgPage& page_;
  std::string out_;
};

}  // namespace adrank

#endif  // ADRANK_BENCH_SVG_CHART_H_
