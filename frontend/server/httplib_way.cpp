#include "frontend/server/httplib_way.hpp"

#include <httplib.h>

#include <array>
#include <exception>
#include <string>

#include "common/os/text.hpp"

namespace visitd {

namespace {

/// Stands for every path that is in no route.
constexpr std::string_view no_route_path = "/-";

/// Fields about the connection, the body, forms of the answer that are ours to decide, and those by which cpp-httplib
/// tells its handlers whose connection it is.
bool is_withheld(std::string_view name) noexcept {
  constexpr std::array<std::string_view, 16> withheld = {"connection",
                                                         "keep-alive",
                                                         "proxy-connection",
                                                         "upgrade",
                                                         "te",
                                                         "trailer",
                                                         "expect",
                                                         "range",
                                                         "if-range",
                                                         "accept-encoding",
                                                         "transfer-encoding",
                                                         "content-length",
                                                         "remote_addr",
                                                         "remote_port",
                                                         "local_addr",
                                                         "local_port"};
  return is_same_word(name.substr(0, 8), "content-") ||
         std::any_of(withheld.begin(), withheld.end(),
                     [name](std::string_view word) { return is_same_word(name, word); });
}

/// cpp-httplib takes no longer line of a head (CPPHTTPLIB_HEADER_MAX_LENGTH). Our handlers look at the head that was
/// vetted, and at none of its fields.
constexpr std::size_t longest_line_bytes = 8192;

/// A request in memory on one side, its answer on the other.
class MemoryStream final : public httplib::Stream {
 public:
  MemoryStream(std::string_view request, OutputBuffer& out) noexcept : request_(request), out_(out) {}

  [[nodiscard]] bool is_readable() const override { return true; }
  [[nodiscard]] bool is_writable() const override { return true; }
  ssize_t read(char* bytes, std::size_t size) override {
    const std::size_t part = std::min(size, request_.size());
    std::memcpy(bytes, request_.data(), part);
    request_.remove_prefix(part);
    return static_cast<ssize_t>(part);
  }
  ssize_t write(const char* bytes, std::size_t size) override {
    out_.reserve(size);
    out_.append({bytes, size});
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  [[nodiscard]] socket_t socket() const override { return INVALID_SOCKET; }

 private:
  std::string_view request_;
  OutputBuffer& out_;
};

class HttplibWay final : public AnsweringWay, httplib::Server {
 public:
  HttplibWay(Routes& routes, const AnswerFormat& format) : routes_(routes), format_(format) {
    const Handler handler = [this](const httplib::Request&, httplib::Response& response) { respond(response); };
    for (const Route& route : Routes::table()) {
      const std::string path(route.path);
      if (route.allows(Method::get)) Get(path, handler);
      if (route.allows(Method::post)) Post(path, handler);
      if (route.allows(Method::put)) Put(path, handler);
      if (route.allows(Method::delete_)) Delete(path, handler);
      Options(path, handler);
    }
    Options(std::string(no_route_path), handler);
    // What cpp-httplib finds no handler for is ours to answer as well: 404, or 405 where the path exists.
    set_error_handler(HandlerWithResponse([this](const httplib::Request&, httplib::Response& response) {
      if (responded_) return HandlerResponse::Unhandled;
      respond(response);
      return HandlerResponse::Handled;
    }));
    set_exception_handler(
        [this](const httplib::Request&, httplib::Response& response, const std::exception_ptr& exception) {
          routes_.fail(*call_, exception, answer_);
          responded_ = true;
          fill(response);
        });
    set_post_routing_handler(
        [this](const httplib::Request&, httplib::Response& response) { correct_fields(response); });
  }

  [[nodiscard]] Handled answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept override {
    const std::size_t before = out.size();
    try {
      process(call, keep_alive, out);
      if (handled_ != Handled::answered) out.truncate(before);
    } catch (...) {  // cpp-httplib itself failed
      out.truncate(before);
      handled_ = Handled::answered;
      routes_.fail(call, std::current_exception(), answer_);
      format_.write(answer_, *call.head, keep_alive, out);
    }
    return handled_;
  }

 private:
  void process(const Call& call, bool keep_alive, OutputBuffer& out) {
    call_ = &call;
    keep_alive_ = keep_alive;
    responded_ = false;
    handled_ = Handled::answered;
    write_request(call);
    MemoryStream stream(request_, out);
    bool closed = false;
    run(*this, stream, !keep_alive, closed);
  }

  /// Newer releases take the addresses of both ends too. Asked of the header that is compiled, which may be a wrap's.
  template <typename Self>
  static void run(Self& self, MemoryStream& stream, bool close, bool& closed) {
    const std::string none;
    if constexpr (requires { self.process_request(stream, none, 0, none, 0, close, closed, nullptr); }) {
      self.process_request(stream, none, 0, none, 0, close, closed, nullptr);
    } else {
      self.process_request(stream, close, closed, nullptr);
    }
  }

  void write_request(const Call& call) {
    const RequestHead& head = *call.head;
    request_.assign(head.method_text);
    request_ += ' ';
    request_ += call.route == nullptr ? no_route_path : call.route->path;
    request_ += " HTTP/1.1\r\n";
    for (std::string_view fields = head.fields; !fields.empty();) {
      const std::string_view line = fields.substr(0, fields.find('\n') + 1);
      const bool fits = line.size() <= longest_line_bytes;
      if (fits && !is_withheld(line.substr(0, line.find(':')))) request_ += line;
      fields.remove_prefix(line.size());
    }
    request_ += "Content-Length: 0\r\n\r\n";
  }

  void respond(httplib::Response& response) {
    responded_ = true;
    handled_ = routes_.handle(*call_, answer_);
    if (handled_ == Handled::answered) fill(response);
  }

  void fill(httplib::Response& response) {
    response.status = answer_.status;
    response.body = answer_.body.bytes();
    format_.each_field(answer_, *call_->head, [&response](std::string_view name, std::string_view value) {
      response.set_header(std::string(name), std::string(value));
    });
  }

  void correct_fields(httplib::Response& response) const {
    response.headers.erase("Keep-Alive");
    response.headers.erase("Accept-Ranges");
    if (!has_body(answer_.status) || answer_.length_unknown) response.headers.erase("Content-Length");
    if (keep_alive_ && call_->head->minor_version_0) response.set_header("Connection", "keep-alive");
  }

  Routes& routes_;
  const AnswerFormat& format_;
  Answer answer_;
  std::string request_;
  const Call* call_ = nullptr;
  bool keep_alive_ = false;
  bool responded_ = false;
  Handled handled_ = Handled::answered;
};

}  // namespace

std::unique_ptr<AnsweringWay> make_httplib_way(Routes& routes, const AnswerFormat& format) {
  return std::make_unique<HttplibWay>(routes, format);
}

}  // namespace visitd
