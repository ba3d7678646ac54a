// RowReader's rules for CSV and TSV once more: slow and obvious, on a text in
// memory.
#ifndef ADRANK_TESTS_TOOLS_ROW_READER_ORACLE_H_
#define ADRANK_TESTS_TOOLS_ROW_READER_ORACLE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace adrank::testing {

struct OracleRow {
  int line = 0;
  bool good = false;
  std::vector<std::string> fields;
};

// The lines of `text`, "\n" or "\r\n" taken off.
inline std::vector<std::string> OracleLines(const std::string& text,
                                            std::vector<bool>* crlf) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    std::string line = text.substr(at, end - at);
    crlf->push_back(!line.empty() && line.back() == '\r');
    if (crlf->back()) line.pop_back();
    lines.push_back(line);
    at = end + 1;
  }
  return lines;
}

// One character at a time; false when the quotes are wrong or still open at the
// end.
inline bool OracleSplit(const std::string& row, char separator, bool quotes,
                        bool* open, std::vector<std::string>* fields) {
  enum { kStart, kPlain, kQuoted, kClosed } state = kStart;
  fields->assign(1, "");
  *open = false;
  for (char c : row) {
    if (state == kQuoted) {
      if (c == '"') {
        state = kClosed;
      } else {
        fields->back() += c;
      }
    } else if (c == separator) {
      fields->emplace_back();
      state = kStart;
    } else if (state == kClosed) {
      if (c != '"') return false;
      fields->back() += c;
      state = kQuoted;
    } else if (quotes && state == kStart && c == '"') {
      state = kQuoted;
    } else {
      fields->back() += c;
      state = kPlain;
    }
  }
  *open = state == kQuoted;
  return !*open;
}

// Rows of `columns` fields. A row goes on over lines while a quote is open; a
// bad one is its first line alone.
inline std::vector<OracleRow> OracleRows(const std::string& text,
                                         char separator, bool quotes,
                                         size_t columns) {
  std::vector<bool> crlf;
  const std::vector<std::string> lines = OracleLines(text, &crlf);
  std::vector<OracleRow> rows;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    OracleRow row;
    row.line = static_cast<int>(i) + 1;
    std::string joined = lines[i];
    size_t last = i;
    bool open = false;
    bool good = OracleSplit(joined, separator, quotes, &open, &row.fields);
    while (open && last + 1 < lines.size()) {
      joined += (crlf[last] ? "\r\n" : "\n") + lines[last + 1];
      ++last;
      good = OracleSplit(joined, separator, quotes, &open, &row.fields);
    }
    row.good = good && row.fields.size() == columns;
    if (row.good) i = last;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TOOLS_ROW_READER_ORACLE_H_
