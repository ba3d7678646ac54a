// The whole graph of the embedding family from its proto, in double, by loops
// that follow the formulas of proto/model_graph.proto: what GraphTrainer, the
// backward pass (by differences) and the served model are compared with.
#ifndef ADRANK_TESTS_TESTING_REFERENCE_GRAPH_H_
#define ADRANK_TESTS_TESTING_REFERENCE_GRAPH_H_

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/graph.h"
#include "proto/model_graph.pb.h"

namespace adrank::testing {

using Vec = std::vector<double>;
using Mat = std::vector<Vec>;  // [row][column]

// The embeddings of a batch, pooled.
struct PooledBatch {
  Mat x;       // [row][columns of all fields, the context's first]
  Vec square;  // [row] sum over entries of |x v|^2, for FM
  Vec linear;  // [row]
};

class ReferenceGraph {
 public:
  enum class Form {
    kTraining,    // batch norm with the batch's statistics
    kEvaluation,  // with the running ones
    kFolded,      // parameters of FoldBatchNorm
  };
  struct Field {
    size_t dim = 0;
    size_t column = 0;
  };
  struct Result {
    Vec logits;
    Vec shared;   // without the streams' heads
    Mat outputs;  // [stream][row]
  };

  ReferenceGraph(const v1::ModelGraph& spec, const FieldLayout& layout)
      : spec_(spec), layout_(layout), fields(layout.names.size()) {
    for (const bool context : {true, false}) {
      for (size_t f = 0; f < fields.size(); ++f) {
        if (layout.context[f] != context) continue;
        size_t dim = spec.dim() == 0 ? 16 : spec.dim();
        if (layout.position[f]) dim = 0;
        for (const auto& d : spec.field_dims()) {
          if (d.field() == layout.names[f]) dim = d.dim();
        }
        fields[f] = {dim, width};
        if (dim > 0) placed_.push_back(f);
        width += dim;
      }
      if (context) context_width_ = width;
    }
  }

  // Parameters by the names of the graph's tensors.
  void Take(const Graph& graph, const std::vector<float>& parameters) {
    p.clear();
    for (const Tensor& t : graph.tensors) {
      const float* from = parameters.data() + t.offset;
      p[t.name] = Vec(from, from + t.size());
    }
  }

  Result Run(const PooledBatch& batch, Form form) const {
    const size_t rows = batch.x.size();
    Result result;
    result.shared.resize(rows);
    for (size_t r = 0; r < rows; ++r) {
      result.shared[r] = p.at("bias")[0] + batch.linear[r] + Pairs(batch, r);
    }
    std::vector<Mat> tops;
    for (int s = 0; s < spec_.streams_size(); ++s) {
      tops.push_back(Stream(s, batch.x, form));
      const Vec& w = p.at(absl::StrCat("streams[", s, "].head.w"));
      Vec out(rows);
      for (size_t r = 0; r < rows; ++r) out[r] = Dot(tops.back()[r], w);
      result.outputs.push_back(out);
    }
    result.logits = result.shared;
    for (size_t r = 0; r < rows; ++r) {
      if (spec_.fusion().heads() > 0) {
        result.shared[r] += Fusion(tops[0][r], tops[1][r]);
        result.logits[r] = result.shared[r];
      }
      const double share =
          spec_.combine() == v1::ModelGraph::MEAN && !tops.empty()
              ? 1.0 / static_cast<double>(tops.size())
              : 1.0;
      for (const Vec& out : result.outputs) {
        result.logits[r] += share * out[r];
      }
    }
    return result;
  }

 private:
  const v1::ModelGraph spec_;
  const FieldLayout layout_;

 public:
  std::map<std::string, Vec> p;
  std::vector<Field> fields;
  size_t width = 0;
  // What a layer's output is multiplied by (dropout), by the layer's name.
  std::function<double(const std::string&, size_t row, size_t column)> keep =
      [](const std::string&, size_t, size_t) { return 1.0; };

 private:
  static double Dot(const Vec& a, const Vec& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }
  // Field i of those that have an embedding.
  Vec Part(const Vec& x, size_t i, size_t dim) const {
    return Vec(x.begin() + static_cast<ptrdiff_t>(i * dim),
               x.begin() + static_cast<ptrdiff_t>((i + 1) * dim));
  }
  size_t OneDim() const { return fields[placed_[0]].dim; }

  double Pairs(const PooledBatch& batch, size_t r) const {
    if (spec_.pairwise() == v1::ModelGraph::PAIRWISE_UNSPECIFIED) return 0;
    const size_t n = placed_.size(), dim = OneDim();
    double sum = 0;
    if (spec_.pairwise() == v1::ModelGraph::FM) {
      Vec s(dim);
      for (size_t i = 0; i < n * dim; ++i) s[i % dim] += batch.x[r][i];
      return 0.5 * (Dot(s, s) - batch.square[r]);
    }
    size_t pair = 0;
    const bool fvfm = spec_.pairwise() == v1::ModelGraph::FVFM;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = i + 1; j < n; ++j, ++pair) {
        Vec ei = Part(batch.x[r], i, dim);
        if (fvfm) {
          for (size_t d = 0; d < dim; ++d) {
            ei[d] *= p.at("fvfm.m")[pair * dim + d];
          }
        }
        sum += p.at(fvfm ? "fvfm.r" : "fwfm.r")[pair] *
               Dot(ei, Part(batch.x[r], j, dim));
      }
    }
    return sum;
  }

  double Fusion(const Vec& o1, const Vec& o2) const {
    const size_t heads = spec_.fusion().heads();
    const size_t h1 = o1.size() / heads, h2 = o2.size() / heads;
    double sum = 0;
    for (size_t i = 0; i < o1.size(); ++i) {
      for (size_t j = 0; j < h2; ++j) {
        sum += o1[i] * p.at("fusion.W")[i * h2 + j] * o2[i / h1 * h2 + j];
      }
    }
    return sum;
  }

  Mat Product(const Mat& x, const std::string& name, size_t out) const {
    Mat y(x.size(), Vec(out));
    const Vec& w = p.at(name);
    for (size_t r = 0; r < x.size(); ++r) {
      for (size_t j = 0; j < out; ++j) {
        for (size_t i = 0; i < x[r].size(); ++i) {
          y[r][j] += x[r][i] * w[i * out + j];
        }
      }
    }
    return y;
  }
  Mat Affine(const Mat& x, const std::string& w, const std::string& b,
             size_t out) const {
    Mat y = Product(x, w, out);
    for (Vec& row : y) {
      for (size_t j = 0; j < out; ++j) row[j] += p.at(b)[j];
    }
    return y;
  }
  static void Relu(Mat* x) {
    for (Vec& row : *x) {
      for (double& v : row) v = std::max(v, 0.0);
    }
  }

  Mat Stream(int s, const Mat& x, Form form) const {
    const v1::Stream& stream = spec_.streams(s);
    const std::string name = absl::StrCat("streams[", s, "]");
    Mat at = Gate(stream.gate(), name + ".gate", x);
    if (stream.emit()) {
      for (Vec& row : at) {
        const Vec in = row;
        const size_t dim = OneDim();
        for (size_t i = 0; i < in.size() / dim; ++i) {
          for (size_t j = i + 1; j < in.size() / dim; ++j) {
            row.push_back(Dot(Part(in, i, dim), Part(in, j, dim)));
          }
        }
      }
    }
    const Mat first = at;
    for (int l = 0; l < stream.layers_size(); ++l) {
      at = Layer(stream.layers(l), absl::StrCat(name, ".layers[", l, "]"),
                 first, at, form);
    }
    return at;
  }

  Mat Gate(const v1::Gate& gate, const std::string& name, const Mat& x) const {
    Mat out = x;
    if (gate.kind() == v1::Gate::CONSTANT) {
      for (Vec& row : out) {
        for (size_t j = 0; j < row.size(); ++j) {
          row[j] *= 2 / (1 + std::exp(-p.at(name + ".c")[j]));
        }
      }
    } else if (gate.kind() == v1::Gate::FIELDS) {
      Mat at(x.size());
      for (size_t r = 0; r < x.size(); ++r) {
        for (const std::string& field : gate.fields()) {
          const size_t f = static_cast<size_t>(
              std::find(layout_.names.begin(), layout_.names.end(), field) -
              layout_.names.begin());
          for (size_t d = 0; d < fields[f].dim; ++d) {
            at[r].push_back(x[r][fields[f].column + d]);
          }
        }
      }
      for (int i = 0; i < gate.hidden_size(); ++i) {
        const std::string hidden = absl::StrCat(name, ".hidden[", i, "]");
        at = Affine(at, hidden + ".W", hidden + ".b", gate.hidden(i));
        Relu(&at);
      }
      at = Affine(at, name + ".out.W", name + ".out.b", width);
      for (size_t r = 0; r < x.size(); ++r) {
        for (size_t j = 0; j < width; ++j) {
          out[r][j] *= 2 / (1 + std::exp(-at[r][j]));
        }
      }
    } else if (gate.kind() == v1::Gate::FIELD) {
      const size_t n = placed_.size(), dim = OneDim();
      for (size_t r = 0; r < x.size(); ++r) {
        for (size_t to = 0; to < n; ++to) {
          for (size_t d = 0; d < dim; ++d) {
            double g = p.at(name + ".a")[to];
            for (size_t f = 0; f < n; ++f) {
              g += p.at(name + ".A")[f * n + to] * x[r][f * dim + d];
            }
            out[r].push_back(x[r][to * dim + d] * g);
          }
        }
      }
    }
    return out;
  }

  Mat Layer(const v1::Layer& layer, const std::string& name, const Mat& x0,
            const Mat& x, Form form) const {
    Mat y;
    const bool cross = layer.kind() == v1::Layer::CROSS ||
                       layer.kind() == v1::Layer::CROSS_TRIANGULAR;
    if (cross) {
      y = Cross(layer, name, x0, x);
    } else {
      y = Affine(x, name + ".W", name + ".b", layer.units());
    }
    if (layer.kind() == v1::Layer::FINT) {
      const size_t half = layer.units() / 2;
      for (Vec& row : y) {
        for (size_t j = 0; j < half; ++j) row[half + j] *= row[j];
      }
    }
    if (layer.batch_norm()) {
      const bool dense = !cross && layer.kind() != v1::Layer::FINT;
      Norm(name + ".norm", form, dense, &y);
    }
    if (!cross && layer.activation() != v1::Layer::NONE) Relu(&y);
    for (size_t r = 0; r < y.size(); ++r) {
      for (size_t j = 0; j < y[r].size(); ++j) y[r][j] *= keep(name, r, j);
    }
    return y;
  }

  Mat Cross(const v1::Layer& layer, const std::string& name, const Mat& x0,
            const Mat& x) const {
    const size_t n = x[0].size();
    Mat u;
    if (layer.rank() > 0) {
      u = Affine(Product(x, name + ".V", layer.rank()), name + ".U",
                 name + ".b", n);
    } else {
      u = Affine(x, name + ".W", name + ".b", n);
    }
    if (layer.kind() == v1::Layer::CROSS_TRIANGULAR) {
      // The ad's columns (rows of W) give nothing to the context's.
      const Vec& w = p.at(name + ".W");
      for (size_t r = 0; r < x.size(); ++r) {
        for (size_t j = 0; j < context_width_; ++j) {
          for (size_t i = context_width_; i < n; ++i) {
            u[r][j] -= x[r][i] * w[i * n + j];
          }
        }
      }
    }
    for (size_t r = 0; r < x.size(); ++r) {
      for (size_t j = 0; j < n; ++j) u[r][j] = x0[r][j] * u[r][j] + x[r][j];
    }
    return u;
  }

  void Norm(const std::string& name, Form form, bool dense, Mat* y) const {
    if (form == Form::kFolded && dense) return;
    const Vec& scale = p.at(name + ".scale");
    const Vec& shift = p.at(name + ".shift");
    const double rows = static_cast<double>(y->size());
    for (size_t j = 0; j < scale.size(); ++j) {
      double mean = 0, variance = 0, eps = 1e-5;
      if (form == Form::kTraining) {
        for (const Vec& row : *y) mean += row[j] / rows;
        for (const Vec& row : *y) {
          variance += (row[j] - mean) * (row[j] - mean) / rows;
        }
      } else if (form == Form::kEvaluation) {
        mean = p.at(name + ".mean")[j];
        variance = p.at(name + ".variance")[j];
      } else {
        variance = 1;
        eps = 0;
      }
      for (Vec& row : *y) {
        row[j] =
            (row[j] - mean) / std::sqrt(variance + eps) * scale[j] + shift[j];
      }
    }
  }

  std::vector<size_t> placed_;  // fields with an embedding, by column
  size_t context_width_ = 0;
};

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TESTING_REFERENCE_GRAPH_H_
