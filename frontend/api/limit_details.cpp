#include "frontend/api/limit_details.hpp"

#include <fmt/format.h>

#include "frontend/http/body_reader.hpp"

namespace visitd {

LimitDetails::LimitDetails(const Settings& settings)
    : head_bytes_(settings.http.head_limit_bytes),
      target_bytes_(settings.http.target_limit_bytes),
      header_count_(settings.http.header_limit),
      lane_bytes_(settings.ring.lane_bytes) {
  take_settings(settings);
}

void LimitDetails::take_settings(const Settings& settings) {
  body_bytes_ = settings.http.body_limit_bytes;
  buffered_bodies_bytes_ = settings.http.buffered_bodies_limit_bytes;
}

std::string LimitDetails::of(Refusal refusal, const RequestHead& head) const {
  switch (refusal) {
    case Refusal::target_too_long:
      return of_target(head);
    case Refusal::head_too_large:
      return fmt::format("the header fields need more than the {} bytes that http.head_limit_bytes allows a head",
                         head_bytes_);
    case Refusal::too_many_fields:
      return fmt::format("there are more header fields than the {} that http.header_limit allows", header_count_);
    case Refusal::body_too_large:
      return of_body(head);
    case Refusal::malformed_chunk:
      return fmt::format("the chunked body is malformed, or one of its chunk-size lines has more than {} bytes",
                         chunk_line_limit_bytes);
    case Refusal::busy:
      return fmt::format(
          "bodies on their way fill the {} bytes that http.buffered_bodies_limit_bytes allows; nothing of this one was "
          "counted",
          buffered_bodies_bytes_);
    case Refusal::lane_full:
      return fmt::format(
          "visits come faster than they can be stored, and fill the {} bytes of ring.lane_bytes; this one was not "
          "counted",
          lane_bytes_);
    default:
      return {};
  }
}

std::string LimitDetails::of_target(const RequestHead& head) const {
  // Without an end within a head's limit, its length is not known.
  if (head.target.empty()) {
    return fmt::format("the request line needs more than the {} bytes that http.head_limit_bytes allows a head",
                       head_bytes_);
  }
  return fmt::format("the request target has {} bytes; http.target_limit_bytes allows {}", head.target.size(),
                     target_bytes_);
}

std::string LimitDetails::of_body(const RequestHead& head) const {
  if (head.content_length > body_bytes_) {
    return fmt::format("the body has {} bytes; http.body_limit_bytes allows {}", head.content_length, body_bytes_);
  }
  return fmt::format("the body has more than the {} bytes that http.body_limit_bytes allows", body_bytes_);
}

}  // namespace visitd
