#include "server/request_check.h"

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/textproto.h"
#include "gtest/gtest.h"
#include "server/rank/auction.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;

v1::RankRequest Parse(const std::string& text) {
  v1::RankRequest request;
  EXPECT_OK(ParseTextProto(text, "request", &request));
  return request;
}

void ExpectWrong(const v1::RankRequest& request, const std::string& message) {
  EXPECT_THAT(CheckRequest(request, RequestLimits()),
              StatusIs(absl::StatusCode::kInvalidArgument, message));
}

void ExpectWrong(const std::string& text, const std::string& message) {
  ExpectWrong(Parse(text), message);
}

TEST(RequestCheck, AcceptsAnEmptyAndAFullRequest) {
  EXPECT_OK(CheckRequest(v1::RankRequest(), RequestLimits()));
  EXPECT_OK(
      CheckRequest(Parse(R"(request_id: "r" max_candidates: 2000 deadline_ms: 5
               context { time_ms: 1 user_id: "u" query: "Crème"
                         attributes { name: "a" text: "x" number: -1e300 } }
               placements { id: "top" count: 32 reserve_micros: 5 }
               placements { id: "side" count: 32 }
               candidates { ad_id: "a1" }
               candidates { bid_micros: 9 ad { ad_id: "a2" } }
               blocked_advertiser_ids: "v")"),
                   RequestLimits()));
}

TEST(RequestCheck, NumbersThatAreNotFinite) {
  v1::RankRequest request;
  for (int i = 0; i < 4; ++i) {
    request.mutable_context()->add_attributes()->set_name(absl::StrCat(i));
  }
  auto* attribute = request.mutable_context()->mutable_attributes(3);
  attribute->add_number(std::numeric_limits<double>::quiet_NaN());
  ExpectWrong(request, "context.attributes[3].number[0]: not finite");
  attribute->set_number(0, 1);
  attribute->add_number(-std::numeric_limits<double>::infinity());
  ExpectWrong(request, "context.attributes[3].number[1]: not finite");
}

TEST(RequestCheck, InvalidUtf8AnywhereIsNamed) {
  const std::string bad = "\xc3(";
  v1::RankRequest request;
  request.set_request_id(bad);
  ExpectWrong(request, "request_id: not valid UTF-8");
  request.Clear();
  request.mutable_context()->set_query(bad);
  ExpectWrong(request, "context.query: not valid UTF-8");
  request.mutable_context()->Clear();
  request.mutable_context()->set_user_id(bad);
  ExpectWrong(request, "context.user_id: not valid UTF-8");
  request.mutable_context()->Clear();
  auto* attribute = request.mutable_context()->add_attributes();
  attribute->set_name("a");
  attribute->add_text("ok");
  attribute->add_text(bad);
  ExpectWrong(request, "context.attributes[0].text[1]: not valid UTF-8");
  request.Clear();
  request.add_placements()->set_id(bad);
  ExpectWrong(request, "placements[0].id: not valid UTF-8");
  request.Clear();
  request.add_blocked_advertiser_ids("v");
  request.add_blocked_advertiser_ids(bad);
  ExpectWrong(request, "blocked_advertiser_ids[1]: not valid UTF-8");
  request.Clear();
  auto* candidate = request.add_candidates();
  candidate->set_bid_micros(1);
  candidate->mutable_ad()->set_ad_id("a");
  candidate->mutable_ad()->set_campaign_id(bad);
  ExpectWrong(request, "candidates[0].ad.campaign_id: not valid UTF-8");
}

TEST(RequestCheck, TooLargeIsNamedWithItsLimit) {
  v1::RankRequest request;
  for (int i = 0; i < 2001; ++i) {
    request.add_candidates()->set_ad_id(absl::StrCat(i));
  }
  ExpectWrong(request, "candidates: 2001 exceeds the limit of 2000");
  request.Clear();
  for (int i = 0; i < 257; ++i) {
    request.mutable_context()->add_attributes()->set_name(absl::StrCat(i));
  }
  ExpectWrong(request, "context.attributes: 257 exceeds the limit of 256");
  request.Clear();
  request.mutable_context()->set_query(std::string(2049, 'x'));
  ExpectWrong(request, "context.query: 2049 bytes exceed the limit of 2048");
  request.Clear();
  request.set_request_id(std::string(129, 'x'));
  ExpectWrong(request, "request_id: 129 bytes exceed the limit of 128");
  ExpectWrong("max_candidates: 2001",
              "max_candidates: 2001 exceeds the limit of 2000");
  ExpectWrong(
      "placements { id: 'a' count: 40 } placements { id: 'b' count: 25 }",
      "placements[1].count: 65 slots so far exceed the limit of 64");
  // A sum that overflows 32 bits.
  ExpectWrong("placements { id: 'a' count: 4294967295 }",
              "placements[0].count: 4294967295 slots so far exceed the limit "
              "of 64");
}

TEST(RequestCheck, RepeatedNamesAreNamed) {
  ExpectWrong(
      "context { attributes { name: 'x' } attributes { name: 'y' } "
      "attributes { name: 'x' } }",
      "context.attributes[2].name: \"x\" repeats attributes[0]");
  ExpectWrong("placements { id: 'p' } placements { id: 'p' }",
              "placements[1].id: \"p\" repeats placements[0]");
  ExpectWrong(
      "candidates { ad_id: 'a' } "
      "candidates { bid_micros: 1 ad { ad_id: 'a' } }",
      "candidates[1].ad_id: \"a\" repeats candidates[0]");
  // The table of many attributes finds them too.
  v1::RankRequest request;
  for (int i = 0; i < 100; ++i) {
    request.mutable_context()->add_attributes()->set_name(
        absl::StrCat(i == 99 ? 17 : i));
  }
  ExpectWrong(request,
              "context.attributes[99].name: \"17\" repeats attributes[17]");
}

TEST(RequestCheck, EmptyNamesAndBadAmounts) {
  ExpectWrong("context { attributes { text: 'x' } }",
              "context.attributes[0].name: empty");
  ExpectWrong("placements { count: 1 }", "placements[0].id: empty");
  ExpectWrong("placements { id: 'p' reserve_micros: -1 }",
              "placements[0].reserve_micros: -1 is negative");
  ExpectWrong("candidates { }", "candidates[0].ad_id: empty");
  ExpectWrong("candidates { ad_id: 'a' bid_micros: -5 }",
              "candidates[0].bid_micros: -5 is negative");
  ExpectWrong("candidates { ad_id: 'a' bid_micros: 4611686018427387905 }",
              "candidates[0].bid_micros: 4611686018427387905 exceeds the "
              "limit of 4611686018427387904");
  ExpectWrong("candidates { ad { ad_id: 'a' } }",
              "candidates[0].bid_micros: required with ad");
  ExpectWrong("candidates { bid_micros: 1 ad { } }",
              "candidates[0].ad.ad_id: empty");
  ExpectWrong("candidates { ad_id: 'x' bid_micros: 1 ad { ad_id: 'a' } }",
              "candidates[0].ad_id: differs from ad.ad_id \"a\"");
  ExpectWrong("context { time_ms: -1 }",
              "context.time_ms: -1 not in [0, 253402300799999]");
  ExpectWrong("blocked_advertiser_ids: ''", "blocked_advertiser_ids[0]: empty");
  ExpectWrong("blocked_ad_ids: ''", "blocked_ad_ids[0]: empty");
  ExpectWrong("blocked_categories: 'c' blocked_categories: ''",
              "blocked_categories[1]: empty");
}

TEST(RequestCheck, PredictNeedsNoBid) {
  v1::PredictRequest request;
  request.add_candidates()->mutable_ad()->set_ad_id("a");
  EXPECT_OK(CheckRequest(request, RequestLimits()));
  request.mutable_candidates(0)->set_bid_micros(-1);
  EXPECT_THAT(CheckRequest(request, RequestLimits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "candidates[0].bid_micros: -1 is negative"));
}

TEST(RequestCheck, ExplainNamesTheInnerRequest) {
  v1::ExplainRequest request;
  request.mutable_request()->add_placements();
  EXPECT_THAT(CheckRequest(request, RequestLimits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "request.placements[0].id: empty"));
  request.clear_request();
  request.add_ad_ids("");
  EXPECT_THAT(CheckRequest(request, RequestLimits()),
              StatusIs(absl::StatusCode::kInvalidArgument, "ad_ids[0]: empty"));
}

TEST(RequestLimits, DefaultsAndRanges) {
  v1::LimitsConfig config;
  EXPECT_EQ(RequestLimits::Create(config)->deadline_ms, 50u);
  config.set_max_slots(255);
  EXPECT_EQ(RequestLimits::Create(config)->max_slots, 255u);
  config.set_max_slots(256);
  EXPECT_THAT(RequestLimits::Create(config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "limits.max_slots: 256 not in [0, 255]"));
}

}  // namespace
}  // namespace adrank
