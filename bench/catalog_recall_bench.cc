// Which of a shop's products a search finds: a folder with products_48k.csv.gz
// (upc, name, manufacturer, ...) and queries.csv.gz (user, sku, category,
// query, ...), each product an ad with keywords and a vector of its text.
//
//   bench/run.sh catalog_recall FOLDER
//
// The queries name what was clicked by sku, the products have no sku. Where no
// clicked product is among the products, its recall cannot be computed (the
// first line says how many are), and two others are:
//   known_item  a product is found again among 100 candidates by two to four
//               words of its name, drawn at random
//   all_words   for a real query, of the products that have all its words in
//               name or manufacturer (at most 100 of them), the share that is
//               among 100 candidates; over queries that have such products
// Text vectors: every word, and every three letters in a row, has a random
// direction of +-1 in kDims dimensions, derived from its hash; a text is the
// sum of them by tf-idf. Keywords are BROAD; equal bids, so that nothing but
// the sources decides.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include "features/text.h"
#include "server/trigger/ad_index.h"
#include "tools/line_reader.h"

namespace adrank {
namespace {

constexpr size_t kDims = 128;
constexpr uint32_t kLimit = 100;

struct Product {
  std::string id, name, manufacturer;
  std::vector<std::string> words;  // of the name
};

struct Query {
  std::string sku, text;
};

template <typename F>
bool ForEachLine(const std::string& path, F f) {
  auto reader = LineReader::Open(path);
  if (!reader.ok()) {
    std::fprintf(stderr, "catalog_recall: %s\n",
                 reader.status().ToString().c_str());
    return false;
  }
  bool header = true;
  while ((*reader)->Next()) {
    if (!header) f(absl::string_view((*reader)->text()));
    header = false;
  }
  return true;
}

// The cell at the start of *line, which loses it and its comma: quoted, with
// quotes inside written \", or a blank for nothing.
std::string TakeCell(absl::string_view* line) {
  std::string cell;
  if (!absl::ConsumePrefix(line, "\"")) {
    const size_t comma = std::min(line->find(','), line->size());
    line->remove_prefix(std::min(comma + 1, line->size()));
    return cell;
  }
  while (!line->empty() && line->front() != '"') {
    if (line->front() == '\\' && line->size() > 1) line->remove_prefix(1);
    cell.push_back(line->front());
    line->remove_prefix(1);
  }
  absl::ConsumePrefix(line, "\"");
  absl::ConsumePrefix(line, ",");
  return cell;
}

// "upc","name","manufacturer",...
std::vector<Product> ReadProducts(const std::string& path) {
  std::vector<Product> products;
  absl::flat_hash_set<std::string> seen;
  ForEachLine(path, [&](absl::string_view line) {
    Product p;
    p.id = TakeCell(&line);
    p.name = TakeCell(&line);
    p.manufacturer = TakeCell(&line);
    p.words = Tokenize(p.name);
    if (!p.words.empty() && seen.insert(p.id).second) products.push_back(p);
  });
  return products;
}

// One quoted cell holds a line of CSV: user,sku,category,query,time,time.
std::vector<Query> ReadQueries(const std::string& path) {
  std::vector<Query> queries;
  ForEachLine(path, [&](absl::string_view line) {
    std::vector<std::string> cells = absl::StrSplit(line, ',');
    if (cells.size() < 6) return;
    Query q;
    q.sku = cells[1];
    const std::vector<std::string> text(cells.begin() + 3, cells.end() - 2);
    q.text = absl::StrReplaceAll(absl::StrJoin(text, ","), {{"\"", " "}});
    queries.push_back(q);
  });
  return queries;
}

class TextVectors {
 public:
  void Learn(const std::vector<Product>& products) {
    for (const Product& p : products) {
      absl::flat_hash_set<uint64_t> distinct;
      for (const uint64_t f : Features(TextOf(p))) distinct.insert(f);
      for (const uint64_t f : distinct) ++documents_[f];
    }
    total_ = static_cast<double>(products.size());
  }
  static std::string TextOf(const Product& p) {
    return absl::StrCat(p.name, " ", p.manufacturer);
  }
  // All 0 for a text without words.
  std::vector<float> Of(absl::string_view text) const {
    absl::flat_hash_map<uint64_t, double> counts;
    for (const uint64_t f : Features(text)) ++counts[f];
    std::map<uint64_t, double> sorted(counts.begin(), counts.end());
    std::vector<double> sum(kDims);
    for (const auto& [f, count] : sorted) {
      const auto it = documents_.find(f);
      const double df = it == documents_.end() ? 0 : it->second;
      const double weight =
          (1 + std::log(count)) * std::log((total_ + 1) / (df + 1));
      for (size_t i = 0; i < kDims; i += 64) {
        const uint64_t signs = MixBits(f + i);
        for (size_t b = 0; b < 64; ++b) {
          sum[i + b] += (signs >> b & 1) != 0 ? weight : -weight;
        }
      }
    }
    return std::vector<float>(sum.begin(), sum.end());
  }

 private:
  // Words, and their letters three by three with the ends marked.
  static std::vector<uint64_t> Features(absl::string_view text) {
    std::vector<uint64_t> features;
    for (const std::string& word : Tokenize(text)) {
      features.push_back(Hash64(word));
      const std::string marked = absl::StrCat("^", word, "$");
      for (size_t i = 0; i + 3 <= marked.size(); ++i) {
        features.push_back(Hash64(absl::StrCat("3", marked.substr(i, 3))));
      }
    }
    return features;
  }

  absl::flat_hash_map<uint64_t, double> documents_;
  double total_ = 0;
};

// How a product becomes keywords.
enum class Keywords { kName, kManufacturer, kPairs, kWords };
const char* NameOf(Keywords k) {
  switch (k) {
    case Keywords::kName:
      return "name";
    case Keywords::kManufacturer:
      return "manufacturer_and_first_words";
    case Keywords::kPairs:
      return "adjacent_pairs";
    case Keywords::kWords:
      return "single_words";
  }
  return "";
}

std::set<std::string> KeywordsOf(const Product& p, Keywords how) {
  std::set<std::string> texts;
  const std::vector<std::string>& w = p.words;
  if (how == Keywords::kName) {
    // A keyword has at most 10 words.
    const size_t n = std::min<size_t>(10, w.size());
    texts.insert(absl::StrJoin(w.begin(), w.begin() + n, " "));
  }
  if (how == Keywords::kManufacturer) {
    const std::string maker = absl::StrJoin(Tokenize(p.manufacturer), " ");
    if (!maker.empty()) texts.insert(maker);
    texts.insert(absl::StrJoin(w.begin(),
                               w.begin() + std::min<size_t>(2, w.size()), " "));
  }
  if (how == Keywords::kPairs) {
    for (size_t i = 0; i + 1 < w.size(); ++i) {
      texts.insert(absl::StrCat(w[i], " ", w[i + 1]));
    }
  }
  if (how == Keywords::kWords) texts.insert(w.begin(), w.end());
  return texts;
}

v1::Catalog CatalogOf(const std::vector<Product>& products, Keywords how,
                      const std::vector<std::vector<float>>& vectors) {
  v1::Catalog catalog;
  catalog.add_advertisers()->set_id("shop");
  v1::Campaign* c = catalog.add_campaigns();
  c->set_id("products");
  c->set_advertiser_id("shop");
  for (size_t i = 0; i < products.size(); ++i) {
    v1::AdGroup* g = catalog.add_ad_groups();
    g->set_id(products[i].id);
    g->set_campaign_id("products");
    g->set_bid_micros(1000000);
    for (const std::string& text : KeywordsOf(products[i], how)) {
      g->add_keywords()->set_text(text);
    }
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(products[i].id);
    ad->set_ad_group_id(products[i].id);
    ad->mutable_embedding()->Assign(vectors[i].begin(), vectors[i].end());
  }
  return catalog;
}

// A text that is asked, and the products (by id) that should be found.
struct Case {
  std::string text;
  std::vector<float> vector;
  std::vector<std::string> relevant;
};

std::vector<Case> KnownItems(const std::vector<Product>& products,
                             const TextVectors& vectors) {
  Rng rng(1);
  std::vector<Case> cases;
  while (cases.size() < 999) {
    const Product& p = products[rng.Below(products.size())];
    std::vector<std::string> words = p.words;
    const size_t n = 2 + rng.Below(3);
    if (words.size() < n) continue;
    for (size_t i = 0; i < n; ++i) {
      std::swap(words[i], words[i + rng.Below(words.size() - i)]);
    }
    words.resize(n);
    const std::string text = absl::StrJoin(words, " ");
    cases.push_back({text, vectors.Of(text), {p.id}});
  }
  return cases;
}

std::vector<Case> AllWords(const std::vector<Query>& queries,
                           const std::vector<Product>& products,
                           const TextVectors& vectors) {
  absl::flat_hash_map<std::string, std::vector<uint32_t>> having;
  for (uint32_t i = 0; i < products.size(); ++i) {
    const auto words = Tokenize(TextVectors::TextOf(products[i]));
    for (const auto& w : std::set<std::string>(words.begin(), words.end())) {
      having[w].push_back(i);
    }
  }
  std::vector<Case> cases;
  for (const Query& q : queries) {
    const std::vector<std::string> words = Tokenize(q.text);
    if (words.empty()) continue;
    std::vector<uint32_t> all = having[words[0]];
    for (const std::string& w : words) {
      std::vector<uint32_t> both;
      const std::vector<uint32_t>& next = having[w];
      std::set_intersection(all.begin(), all.end(), next.begin(), next.end(),
                            std::back_inserter(both));
      all = both;
    }
    Case c = {q.text, vectors.Of(q.text), {}};
    for (const uint32_t i : all) c.relevant.push_back(products[i].id);
    cases.push_back(c);
  }
  return cases;
}

struct Mode {
  const char* name;
  bool vector;
  SourceQuota quota;
};

void Measure(const AdIndex& index, const std::string& task,
             const std::vector<Case>& cases, Keywords how, const Mode& mode) {
  RetrieveScratch scratch;
  Retrieval out;
  v1::Context context;
  context.set_time_ms(1);
  double recall = 0, any = 0, asked = 0;
  std::vector<double> us;
  for (const Case& c : cases) {
    context.set_query(mode.quota.keyword > 0 ? c.text : "");
    RetrieveRequest request;
    request.context = &context;
    const bool zero = std::all_of(c.vector.begin(), c.vector.end(),
                                  [](float x) { return x == 0; });
    if (mode.vector && !zero) request.vector = c.vector;
    const int64_t start = absl::GetCurrentTimeNanos();
    index.RetrieveSources(request, mode.quota, 0, kLimit, &scratch, &out);
    us.push_back(1e-3 *
                 static_cast<double>(absl::GetCurrentTimeNanos() - start));
    any += !out.matches.empty();
    if (c.relevant.empty()) continue;
    absl::flat_hash_set<std::string> found;
    for (const AdMatch& m : out.matches) {
      found.insert(std::string(index.ad_id(m.ad)));
    }
    double hits = 0;
    for (const std::string& id : c.relevant) hits += found.contains(id);
    recall +=
        hits / static_cast<double>(std::min<size_t>(kLimit, c.relevant.size()));
    ++asked;
  }
  std::sort(us.begin(), us.end());
  std::printf(
      "{\"name\":\"catalog_recall/%s\",\"value\":%.4f,\"unit\":\"recall@100\","
      "\"params\":{\"keywords\":\"%s\",\"sources\":\"%s\",\"cases\":%.0f,"
      "\"with_an_ad\":%.4f,\"median_us\":%.1f,\"p99_us\":%.1f}}\n",
      task.c_str(), recall / std::max(1.0, asked), NameOf(how), mode.name,
      asked, any / static_cast<double>(cases.size()), us[us.size() / 2],
      us[us.size() * 99 / 100]);
  std::fflush(stdout);
}

int Run(const std::string& folder) {
  const auto products = ReadProducts(folder + "/products_48k.csv.gz");
  const auto queries = ReadQueries(folder + "/queries.csv.gz");
  if (products.empty() || queries.empty()) return 1;
  absl::flat_hash_set<std::string> ids;
  for (const Product& p : products) ids.insert(p.id);
  size_t known = 0;
  for (const Query& q : queries) known += ids.contains(q.sku);
  std::printf(
      "{\"name\":\"catalog_recall/clicked_products_known\",\"value\":%zu,"
      "\"unit\":\"queries\",\"params\":{\"queries\":%zu,\"products\":%zu}}\n",
      known, queries.size(), products.size());
  TextVectors vectors;
  vectors.Learn(products);
  std::vector<std::vector<float>> of_products;
  for (const Product& p : products) {
    of_products.push_back(vectors.Of(TextVectors::TextOf(p)));
  }
  const std::vector<Case> items = KnownItems(products, vectors);
  const std::vector<Case> real = AllWords(queries, products, vectors);
  const Mode modes[] = {{"keywords", false, {kLimit, 0, 0}},
                        {"vectors", true, {0, kLimit, 0}},
                        {"both", true, {kLimit / 2, kLimit / 2, 0}}};
  for (const Keywords how : {Keywords::kName, Keywords::kManufacturer,
                             Keywords::kPairs, Keywords::kWords}) {
    const auto index = AdIndex::Build(CatalogOf(products, how, of_products), 1);
    if (!index.ok()) {
      std::fprintf(stderr, "%s\n", index.status().ToString().c_str());
      return 1;
    }
    for (const Mode& mode : modes) {
      // Vectors do not depend on keywords.
      if (mode.quota.keyword == 0 && how != Keywords::kName) continue;
      Measure(**index, "known_item", items, how, mode);
      Measure(**index, "all_words", real, how, mode);
    }
  }
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr,
                 "usage: bench/run.sh catalog_recall FOLDER\nFOLDER has "
                 "products_48k.csv.gz and queries.csv.gz; it is no part of "
                 "the repository\n");
    return 2;
  }
  return adrank::Run(argv[1]);
}
