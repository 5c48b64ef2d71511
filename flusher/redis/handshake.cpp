#include "flusher/redis/handshake.hpp"

#include <fmt/format.h>

#include "flusher/redis/batch_script.hpp"

namespace visitd {

void Handshake::begin(Step step, std::size_t arguments, RequestText& text) {
  steps_.insert(steps_.begin(), step);
  text.start(arguments);
}

void Handshake::forget() noexcept {
  steps_.clear();
  error_.clear();
}

void Handshake::write(RequestText& text) {
  forget();
  if (!shard_.password.empty()) {
    begin(Step::authenticate, shard_.username.empty() ? 2 : 3, text);
    text.add("AUTH");
    if (!shard_.username.empty()) text.add(shard_.username);
    text.add(shard_.password);
  }
  if (shard_.database != 0) {
    begin(Step::select_database, 2, text);
    text.add("SELECT");
    text.add_number(shard_.database);
  }
  begin(Step::name, 3, text);
  text.add("CLIENT");
  text.add("SETNAME");
  text.add("visitd");
  if (!shard_.sentinels.addresses.empty()) {
    begin(Step::role, 1, text);
    text.add("ROLE");
  }
  const auto load = [&](Step step, std::string_view script) {
    begin(step, 3, text);
    text.add("SCRIPT");
    text.add("LOAD");
    text.add(script);
  };
  load(Step::load_marks, marks_script);
  load(Step::load_topology, topology_script);
  load(Step::load_batch, batch_script);
  load(Step::load_move, move_script);
  load(Step::load_take_moves, take_moves_script);
  load(Step::load_note_writer, note_writer_script);
  load(Step::load_sum, sum_script);
}

Handshake::Progress Handshake::read(Reply reply) {
  const Step step = steps_.back();
  steps_.pop_back();
  switch (step) {
    case Step::name:
      // A server that does not permit it is none the worse, unless it ends the connection: too many clients.
      if (reply.is_error()) error_ = reply.text();
      return Progress::under_way;
    case Step::role:
      return read_role(reply);
    case Step::authenticate:
    case Step::select_database:
      if (!reply.is_error()) return Progress::under_way;
      break;
    case Step::load_marks:
      scripts_.marks = reply.text();
      break;
    case Step::load_topology:
      scripts_.topology = reply.text();
      break;
    case Step::load_batch:
      scripts_.batch = reply.text();
      break;
    case Step::load_move:
      scripts_.move = reply.text();
      break;
    case Step::load_take_moves:
      scripts_.take_moves = reply.text();
      break;
    case Step::load_note_writer:
      scripts_.note_writer = reply.text();
      break;
    case Step::load_sum:
      scripts_.sum = reply.text();
      break;
  }
  if (!reply.is_string()) {
    error_ = refusal(step, reply.is_error() ? reply.text() : "an answer of another kind than Redis gives");
    return Progress::refused;
  }
  if (!steps_.empty()) return Progress::under_way;
  error_.clear();
  return Progress::done;
}

/// A sentinel that is behind the others names a server that has become a replica.
Handshake::Progress Handshake::read_role(Reply reply) {
  if (reply.is_error()) {
    error_ = refusal(Step::role, reply.text());
    return Progress::refused;
  }
  if (reply[0].text() == "master") return Progress::under_way;
  error_ = fmt::format("the server is no primary (its role is {}): the sentinels are asked again", reply[0].text());
  return Progress::not_primary;
}

/// What is wrong, with the setting that it comes from.
std::string Handshake::refusal(Step step, std::string_view said) const {
  if (step == Step::authenticate) {
    const std::string user = shard_.username.empty() ? "" : fmt::format(" for user {}", shard_.username);
    return fmt::format("the password{} was not accepted, which comes from {}: {}", user, shard_.password_place, said);
  }
  if (said.starts_with("NOAUTH")) {
    return fmt::format(
        "the server wants a password, and the settings have none for this shard (redis.password, redis.password_file, "
        "or the shard's own): {}",
        said);
  }
  if (step == Step::role) return fmt::format("ROLE: {}", said);
  if (step == Step::select_database) return fmt::format("SELECT: {}", said);
  if (said.starts_with("ERR unknown command")) {
    // Some servers repeat all of what they do not know.
    return fmt::format(
        "SCRIPT LOAD: {} (a sentinel knows no scripts: if it is one, write "
        "NAME=sentinel://HOST:PORT/PRIMARY)",
        said.substr(0, said.find(", with args")));
  }
  return fmt::format("SCRIPT LOAD: {}", said);
}

}  // namespace visitd
