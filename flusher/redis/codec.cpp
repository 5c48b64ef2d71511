#include "flusher/redis/codec.hpp"

#include <hiredis/hiredis.h>

#include <charconv>
#include <new>

#include "common/os/errors.hpp"

namespace visitd {

namespace {

/// Digits of a number, as they are written.
struct Digits {
  char text[20];
  std::size_t length;
  explicit Digits(std::uint64_t number) noexcept
      : length(static_cast<std::size_t>(std::to_chars(text, text + sizeof text, number).ptr - text)) {}
  [[nodiscard]] std::string_view view() const noexcept { return {text, length}; }
};

bool is(const redisReply* reply, int type) noexcept {
  return reply != nullptr && reply->type == type;
}

/// hiredis's own.
const redisReplyObjectFunctions* makers = nullptr;

/// An array that is too long is not made. Its size is an int or a size_t, as hiredis's version has it.
template <typename Size>
void* make_array(const redisReadTask* task, Size elements) {
  if (static_cast<std::size_t>(elements) > ReplyReader::most_elements) return nullptr;
  return makers->createArray(task, elements);
}

}  // namespace

void RequestText::append_length(char type, std::size_t length) {
  text_ += type;
  text_ += Digits(length).view();
  text_ += "\r\n";
}

void RequestText::add_number(std::uint64_t number) {
  add(Digits(number).view());
}

bool Reply::is_error() const noexcept {
  return is(reply_, REDIS_REPLY_ERROR);
}
bool Reply::is_nil() const noexcept {
  return reply_ == nullptr || reply_->type == REDIS_REPLY_NIL;
}
bool Reply::is_string() const noexcept {
  return is(reply_, REDIS_REPLY_STRING);
}
bool Reply::is_array() const noexcept {
  return is(reply_, REDIS_REPLY_ARRAY);
}

bool Reply::is_number() const noexcept {
  return is(reply_, REDIS_REPLY_INTEGER);
}
std::int64_t Reply::number() const noexcept {
  return is_number() ? reply_->integer : 0;
}

std::string_view Reply::text() const noexcept {
  if (is_string() || is_error() || is(reply_, REDIS_REPLY_STATUS)) {
    return {reply_->str, static_cast<std::size_t>(reply_->len)};
  }
  return {};
}

std::size_t Reply::size() const noexcept {
  return is_array() ? reply_->elements : 0;
}

Reply Reply::operator[](std::size_t index) const noexcept {
  return Reply(index < size() ? reply_->element[index] : nullptr);
}

void ReplyReader::Free::operator()(redisReader* reader) const noexcept {
  redisReaderFree(reader);
}
void ReplyReader::Free::operator()(redisReply* reply) const noexcept {
  freeReplyObject(reply);
}

ReplyReader::ReplyReader() : reader_(redisReaderCreate()) {
  if (reader_ == nullptr) throw std::bad_alloc();
  static redisReplyObjectFunctions bounded = [this] {
    makers = reader_->fn;
    redisReplyObjectFunctions functions = *makers;
    functions.createArray = make_array;
    return functions;
  }();
  reader_->fn = &bounded;
}

void ReplyReader::feed(std::string_view bytes) {
  if (redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) != REDIS_OK) throw std::bad_alloc();
}

std::optional<Reply> ReplyReader::next() {
  reply_.reset();
  void* reply = nullptr;
  if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK) throw Error(reader_->errstr);
  if (reply == nullptr) return std::nullopt;
  reply_.reset(static_cast<redisReply*>(reply));
  return Reply(reply_.get());
}

}  // namespace visitd
