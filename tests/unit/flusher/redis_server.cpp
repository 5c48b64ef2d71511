#include "tests/unit/flusher/redis_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace visitd::test {

namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

std::uint16_t free_port() {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw system_error("no free port");
  }
  return ntohs(address.sin_port);
}

RedisClient::RedisClient(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const sockaddr_in address = loopback(port);
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw system_error("port {}: cannot connect", port);
  }
}

std::string RedisClient::ask(const std::vector<std::string>& command) {
  std::string text = fmt::format("*{}\r\n", command.size());
  for (const std::string& argument : command) text += fmt::format("${}\r\n{}\r\n", argument.size(), argument);
  if (::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
    throw system_error("a command cannot be sent");
  }
  return read_reply();
}

void RedisClient::fill() {
  char bytes[65536];
  const ssize_t size = ::recv(socket_.get(), bytes, sizeof bytes, 0);
  if (size <= 0) throw system_error("the server has closed the connection");
  buffer_.append(bytes, static_cast<std::size_t>(size));
}

std::string RedisClient::read_line() {
  while (buffer_.find("\r\n") == std::string::npos) fill();
  const std::size_t end = buffer_.find("\r\n");
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

std::string RedisClient::read_reply() {
  std::string line = read_line();
  const char kind = line.at(0);
  if (kind == '+' || kind == ':') return line.substr(1);
  if (kind == '-') return line;
  const int size = std::stoi(line.substr(1));
  if (size < 0) return "(nil)";
  std::string text;
  if (kind == '$') {
    while (buffer_.size() < static_cast<std::size_t>(size) + 2) fill();
    text = buffer_.substr(0, static_cast<std::size_t>(size));
    buffer_.erase(0, static_cast<std::size_t>(size) + 2);
    return text;
  }
  for (int element = 0; element < size; ++element) text += read_reply() + "\n";
  return text;
}

RedisServer::RedisServer(std::vector<std::string> flags) : flags_(std::move(flags)), port_(free_port()) {
  start();
}

RedisServer::~RedisServer() {
  kill();
}

void RedisServer::start() {
  std::vector<std::string> arguments = {VISITD_REDIS_SERVER,
                                        "--port",
                                        std::to_string(port_),
                                        "--bind",
                                        "127.0.0.1",
                                        "--dir",
                                        directory_.path(),
                                        "--unixsocket",
                                        unix_path(),
                                        "--save",
                                        "",
                                        "--appendonly",
                                        "yes",
                                        "--logfile",
                                        "log"};
  arguments.insert(arguments.end(), flags_.begin(), flags_.end());
  std::vector<char*> raw;
  raw.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) raw.push_back(argument.data());
  raw.push_back(nullptr);
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ < 0) throw system_error("cannot fork");
  if (process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::execv(raw.front(), raw.data());
    ::_exit(127);
  }
  for (int tries = 0; tries < 1000; ++tries) {
    try {
      const std::string said = ask({"PING"});
      if (said == "PONG" || said.starts_with("-NOAUTH")) return;
    } catch (const std::exception&) {
      // Not yet listening.
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  throw error("redis-server does not answer on port {}", port_);
}

void RedisServer::kill() {
  if (process_ <= 0) return;
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
  process_ = -1;
}

void RedisServer::pause() {
  ::kill(process_, SIGSTOP);
}
void RedisServer::resume() {
  ::kill(process_, SIGCONT);
}

TricklingServer::TricklingServer(int often) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), often_(often) {
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::listen(socket_.get(), 4) != 0 ||
      ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw system_error("no port to trickle at");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

TricklingServer::~TricklingServer() {
  ending_ = true;
  ::shutdown(socket_.get(), SHUT_RDWR);
  thread_.join();
}

void TricklingServer::serve() {
  const UniqueFd client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const auto take = [](std::string& text, std::string_view word) {
    const std::size_t at = text.find(word);
    if (at != std::string::npos) text.erase(0, at + word.size());
    return at != std::string::npos;
  };
  std::string asked;
  while (client && !ending_) {
    char bytes[4096];
    const ssize_t size = ::recv(client.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (size == 0) return;
    if (size > 0) asked.append(bytes, static_cast<std::size_t>(size));
    std::string answer;
    if (take(asked, "SETNAME")) {
      answer = "+OK\r\n";
    } else if (take(asked, "LOAD")) {
      answer = "$40\r\n" + std::string(40, 'a') + "\r\n";
    } else if (take(asked, "HMGET")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      for (int i = 0; i < often_; ++i) answer += "*5\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n";
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (!answer.empty() && ::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return;
  }
}

}  // namespace visitd::test
