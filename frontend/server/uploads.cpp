#include "frontend/server/uploads.hpp"

namespace visitd {

Upload::Upload(Uploads& all, Uploader& uploader, AddressShare* address, const RequestHead& head, std::string_view bytes)
    : all_(all), uploader_(uploader), address_(address), head_bytes_(bytes), head_(head.in_copy(bytes, head_bytes_)) {
  by_progress_.upload = in_address_.upload = this;
}

Upload::~Upload() {
  count(0);
}

bool Upload::has_room(std::uint64_t now_ms) {
  count(body_.size());
  const bool progressed = body_.size() >= at_progress_ + Uploads::progress_bytes;
  if (progressed || at_progress_ == 0) {
    at_progress_ = body_.size();
    all_.by_progress_.join(by_progress_, now_ms);
    if (address_ != nullptr) address_->uploads.join(in_address_, now_ms);
  }
  return make_room(now_ms);
}

bool Upload::has_room_whole(std::uint64_t now_ms) {
  count(body_.size());
  by_progress_.leave();
  if (address_ != nullptr) address_->uploads.join(in_address_, now_ms);
  return make_room(now_ms);
}

bool Upload::make_room(std::uint64_t now_ms) {
  const std::uint64_t reserve_bytes = body_.size() <= Uploads::small_bytes ? all_.limit_bytes_ / 8 : 0;
  while (all_.bytes_ > all_.limit_bytes_ + reserve_bytes) {
    if (!all_.make_room_for(*this, now_ms)) return false;
  }
  return true;
}

void Upload::keep_list_alone(std::size_t list_bytes) {
  body_ = std::string();
  count(list_bytes);
  // It waits for us from now on.
  by_progress_.leave();
  if (address_ != nullptr) address_->uploads.join(in_address_, 0);
}

void Upload::move_to(AddressShare* address) {
  const std::size_t bytes = counted_;
  count(0);
  in_address_.leave();
  address_ = address;
  count(bytes);
  if (address_ != nullptr) address_->uploads.join(in_address_, 0);
}

void Upload::count(std::size_t bytes) {
  all_.change(address_, counted_, bytes);
  counted_ = bytes;
}

void Upload::lose() {
  lost_ = true;
  body_ = std::string();
  count(0);
  by_progress_.leave();
  in_address_.leave();
  uploader_.upload_lost();
}

void Uploads::change(AddressShare* address, std::uint64_t from, std::uint64_t to) {
  bytes_ += to - from;
  if (address == nullptr || from == to) return;
  if (address->uploading_bytes != 0) addresses_.erase({address->uploading_bytes, address});
  address->uploading_bytes += to - from;
  if (address->uploading_bytes != 0) addresses_.emplace(address->uploading_bytes, address);
}

bool Uploads::make_room_for(const Upload& upload, std::uint64_t now_ms) {
  Upload* other = stalled(now_ms);
  if (other == nullptr || other == &upload) {
    // Proxies send for many: each of their bodies counts for itself.
    other = of_the_largest_above(upload.address_ == nullptr ? upload.counted_ : upload.address_->uploading_bytes);
  }
  if (other == nullptr || other == &upload) return false;
  other->lose();
  return true;
}

Upload* Uploads::stalled(std::uint64_t now_ms) const noexcept {
  DeadlineMember* const first = by_progress_.first();
  return first != nullptr && first->deadline_ms() <= now_ms ? static_cast<Upload::Place*>(first)->upload : nullptr;
}

Upload* Uploads::of_the_largest_above(std::uint64_t bytes) const noexcept {
  if (addresses_.empty() || addresses_.rbegin()->first <= bytes) return nullptr;
  DeadlineMember* const first = addresses_.rbegin()->second->uploads.first();
  return first == nullptr ? nullptr : static_cast<Upload::Place*>(first)->upload;
}

}  // namespace visitd
