#include "flusher/redis/tls.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "common/os/ip_network.hpp"

namespace visitd {

namespace {

template <auto free>
struct Free {
  template <typename Object>
  void operator()(Object* object) const noexcept {
    free(object);
  }
};
using Context = std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>>;
using Session = std::unique_ptr<SSL, Free<SSL_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Bytes = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Names = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;

/// The oldest error that the library has noted on this thread, in its words. None is left.
std::string library_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "an error without a name";
}

// ---- what the settings give

Bytes bytes_of(const std::string& text) {
  Bytes bytes(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (!bytes) throw std::bad_alloc();
  return bytes;
}

/// Never asks anybody for a passphrase.
int no_passphrase(char* /*buffer*/, int /*size*/, int /*writes*/, void* /*unused*/) {
  return -1;
}

std::vector<Certificate> certificates_of(const FileText& file) {
  ERR_clear_error();
  const Bytes bytes = bytes_of(file.text);
  std::vector<Certificate> found;
  while (Certificate next{PEM_read_bio_X509_AUX(bytes.get(), nullptr, no_passphrase, nullptr)}) {
    found.push_back(std::move(next));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (at_end && !found.empty()) {
    ERR_clear_error();
    return found;
  }
  throw error("{} holds a certificate that cannot be read: {}; write it again in the form PEM", file.place,
              library_error());
}

void trust(SSL_CTX* context, const FileText& authorities) {
  if (authorities.text.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) != 1) throw Error(library_error());
    return;
  }
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  for (const Certificate& authority : certificates_of(authorities)) {
    if (X509_STORE_add_cert(store, authority.get()) != 1) throw Error(library_error());
  }
}

void use_certificate(SSL_CTX* context, const ShardTls& settings) {
  if (settings.certificate.text.empty()) return;
  std::vector<Certificate> certificates = certificates_of(settings.certificate);
  if (SSL_CTX_use_certificate(context, certificates.front().get()) != 1) {
    throw error("{} cannot be used: {}", settings.certificate.place, library_error());
  }
  for (std::size_t i = 1; i < certificates.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, certificates[i].get()) != 1) throw Error(library_error());
  }
  const Bytes bytes = bytes_of(settings.key.text);
  const PrivateKey key(PEM_read_bio_PrivateKey(bytes.get(), nullptr, no_passphrase, nullptr));
  if (!key) throw error("{} holds a private key that cannot be read: {}", settings.key.place, library_error());
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    throw error("the private key of {} is not that of the certificate of {}: {}; give the two that belong together",
                settings.key.place, settings.certificate.place, library_error());
  }
}

// ---- what a server's certificate says

std::string_view bytes_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<std::size_t>(ASN1_STRING_length(text))};
}

/// Whoever answers wrote it: it makes no lines of its own in a log.
std::string shown(std::string_view text) {
  std::string printable(text);
  std::ranges::replace_if(printable, [](char c) { return c < ' ' || c > '~'; }, '?');
  return printable;
}

/// For people: the names and addresses that a certificate is for.
std::string names_of(X509* certificate) {
  std::vector<std::string> found;
  const Names names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) {
      found.push_back(shown(bytes_of(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      const std::string_view octets = bytes_of(name->d.iPAddress);
      IpAddress address;
      if (octets.size() == 4) {
        const auto* four = reinterpret_cast<const std::uint8_t*>(octets.data());
        address = IpAddress::from_ipv4({four[0], four[1], four[2], four[3]});
      } else if (octets.size() == address.bytes.size()) {
        std::copy(octets.begin(), octets.end(), address.bytes.begin());
      } else {
        continue;
      }
      found.push_back(address.text());
    }
  }
  return found.empty() ? "no name" : fmt::format("{}", fmt::join(found, ", "));
}

std::string_view content_of(const Bytes& written) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(written.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

std::string time_text(const ASN1_TIME* time) {
  const Bytes written(BIO_new(BIO_s_mem()));
  if (!written || ASN1_TIME_print(written.get(), time) != 1) return "an unknown time";
  return std::string(content_of(written));
}

std::string line_of(const X509_NAME* name) {
  const Bytes written(BIO_new(BIO_s_mem()));
  if (!written || X509_NAME_print_ex(written.get(), name, 0, XN_FLAG_ONELINE) < 0) return "unknown";
  return shown(content_of(written));
}

}  // namespace

struct TlsState {
  Context context;
  std::string name;          ///< that the server's certificate has to have
  bool name_is_set = false;  ///< by the settings; else it is the shard's host
  std::string authorities;   ///< where they come from, for people
  std::string certificate;   ///< the same of ours; empty: none
};

namespace {

class TlsTransport : public Transport {
 public:
  TlsTransport(std::shared_ptr<const TlsState> state, std::unique_ptr<Transport> below);

  [[nodiscard]] int descriptor() const noexcept override { return below_->descriptor(); }
  [[nodiscard]] bool waits_to_read() const noexcept override { return reached_ && waits_to_read_; }
  Phase go_on() override;
  [[nodiscard]] std::size_t send(std::string_view bytes) override;
  [[nodiscard]] std::size_t receive(char* buffer, std::size_t size) override;

 private:
  static int on_verified(int good, X509_STORE_CTX* chain) noexcept;
  static int on_certificate_wanted(SSL* session, void* transport) noexcept;
  [[nodiscard]] std::string verify_failure(X509_STORE_CTX* chain) const;
  /// What a call came to that returned this: bytes; or 0, and it is to be called again when waits_to_read() says so.
  [[nodiscard]] std::size_t result_of(int returned);
  [[nodiscard]] std::string failure(int kind, int system) const;
  [[nodiscard]] std::string refusal(int reason, const std::string& said) const;

  std::shared_ptr<const TlsState> state_;
  std::unique_ptr<Transport> below_;
  Session session_;
  bool reached_ = false;
  bool waits_to_read_ = false;
  bool certificate_wanted_ = false;
  bool answered_ = false;  ///< a byte came under seal
  std::string unfit_;      ///< why the server's certificate was not accepted
};

TlsTransport::TlsTransport(std::shared_ptr<const TlsState> state, std::unique_ptr<Transport> below)
    : state_(std::move(state)), below_(std::move(below)), session_(SSL_new(state_->context.get())) {
  ERR_clear_error();
  SSL* const session = session_.get();
  if (session == nullptr || SSL_set_fd(session, below_->descriptor()) != 1) throw Error(library_error());
  SSL_set_connect_state(session);
  SSL_set_app_data(session, this);
  SSL_set_verify(session, SSL_VERIFY_PEER, on_verified);
  SSL_set_cert_cb(session, on_certificate_wanted, this);
  std::string name = state_->name;
  if (IpAddress::parse(state_->name)) {
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name.c_str()) != 1) throw Error(library_error());
    return;
  }
  SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  // The second tells the server which of its certificates is wanted.
  if (SSL_set1_host(session, name.c_str()) != 1 ||
      SSL_ctrl(session, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data()) != 1) {
    throw Error(library_error());
  }
}

Transport::Phase TlsTransport::go_on() {
  if (!reached_) {
    if (below_->go_on() != Phase::stands) return Phase::connecting;
    reached_ = true;
  }
  ERR_clear_error();
  return result_of(SSL_do_handshake(session_.get())) != 0 ? Phase::stands : Phase::securing;
}

std::size_t TlsTransport::send(std::string_view bytes) {
  constexpr std::size_t most_pieces = 64;  // others want the loop too
  std::size_t sent = 0;
  for (std::size_t piece = 0; piece < most_pieces && sent < bytes.size(); ++piece) {
    const std::string_view next = bytes.substr(sent, most_at_once);
    ERR_clear_error();
    const std::size_t went = result_of(SSL_write(session_.get(), next.data(), static_cast<int>(next.size())));
    if (went == 0) break;
    sent += went;
  }
  return sent;
}

std::size_t TlsTransport::receive(char* buffer, std::size_t size) {
  ERR_clear_error();
  const std::size_t came = result_of(SSL_read(session_.get(), buffer, static_cast<int>(size)));
  answered_ = answered_ || came != 0;
  return came;
}

std::size_t TlsTransport::result_of(int returned) {
  const int system = errno;
  if (returned > 0) return static_cast<std::size_t>(returned);
  const int kind = SSL_get_error(session_.get(), returned);
  waits_to_read_ = kind == SSL_ERROR_WANT_READ;
  if (waits_to_read_ || kind == SSL_ERROR_WANT_WRITE) return 0;
  throw Error(failure(kind, system));
}

// ---- why it failed

std::string TlsTransport::failure(int kind, int system) const {
  if (!unfit_.empty()) {
    ERR_clear_error();
    return unfit_;
  }
  const bool ended = kind == SSL_ERROR_ZERO_RETURN || kind == SSL_ERROR_SYSCALL;
  const int reason = ERR_GET_REASON(ERR_peek_error());
  std::string said = library_error();
  if (ended)
    said = kind == SSL_ERROR_SYSCALL && system != 0 ? std::generic_category().message(system)
                                                    : "Server closed the connection";
  if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) said = "Server closed the connection";
  if (answered_) return said;
  return refusal(reason, said);
}

/// What the server has against us, before it answered anything.
std::string TlsTransport::refusal(int reason, const std::string& said) const {
  if (certificate_wanted_ && state_->certificate.empty()) {
    return fmt::format(
        "the server wants a certificate of its clients, and the settings have none: set redis.tls_certificate_file and "
        "redis.tls_key_file ({})",
        said);
  }
  if (certificate_wanted_ && reason > SSL_AD_REASON_OFFSET) {
    return fmt::format(
        "the server did not accept our certificate ({}): see that it has not expired, and that an authority has signed "
        "it whom the server knows (its tls-ca-cert-file) ({})",
        state_->certificate, said);
  }
  if (reason == SSL_R_WRONG_VERSION_NUMBER) {
    return fmt::format(
        "what answers there does not speak TLS: put the port right (Redis has one of its own for TLS, tls-port), or "
        "write redis:// ({})",
        said);
  }
  return fmt::format("TLS: {}", said);
}

int TlsTransport::on_certificate_wanted(SSL* /*session*/, void* transport) noexcept {
  static_cast<TlsTransport*>(transport)->certificate_wanted_ = true;
  return 1;
}

int TlsTransport::on_verified(int good, X509_STORE_CTX* chain) noexcept {
  if (good == 1) return good;
  const auto* session = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* transport = static_cast<TlsTransport*>(SSL_get_app_data(session));
  if (transport->unfit_.empty()) transport->unfit_ = transport->verify_failure(chain);
  return good;
}

/// What is wrong with the server's certificate, and what to do.
std::string TlsTransport::verify_failure(X509_STORE_CTX* chain) const {
  const int fault = X509_STORE_CTX_get_error(chain);
  X509* const certificate = X509_STORE_CTX_get_current_cert(chain);
  if (certificate == nullptr) return fmt::format("the server's certificate: {}", X509_verify_cert_error_string(fault));
  const std::string whose =
      X509_STORE_CTX_get_error_depth(chain) == 0
          ? std::string("the server's certificate")
          : fmt::format("the certificate of the authority {}", line_of(X509_get_subject_name(certificate)));
  switch (fault) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return fmt::format(
          "the server's certificate is for {}, not for {}, which is {}: put the shard's address right, or give a name "
          "of the certificate in redis.tls_server_name",
          names_of(certificate), state_->name,
          state_->name_is_set ? "redis.tls_server_name" : "the host in the shard's address");
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return fmt::format("{} expired at {}: give the server a new one (or set this machine's clock)", whose,
                         time_text(X509_get0_notAfter(certificate)));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return fmt::format("{} is not valid before {}: set this machine's clock, or wait", whose,
                         time_text(X509_get0_notBefore(certificate)));
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return fmt::format(
          "{} is signed by {}, who is none of the authorities of {}: add the certificate of that authority there, if "
          "it "
          "is yours ({})",
          whose, line_of(X509_get_issuer_name(certificate)), state_->authorities, X509_verify_cert_error_string(fault));
    default:
      return fmt::format("{} cannot be accepted: {}", whose, X509_verify_cert_error_string(fault));
  }
}

}  // namespace

TlsContext::TlsContext(const ShardTls& settings, const std::string& host) {
  ERR_clear_error();
  auto state = std::make_shared<TlsState>();
  state->context.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const context = state->context.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) throw Error(library_error());
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  trust(context, settings.ca);
  use_certificate(context, settings);
  state->name_is_set = !settings.server_name.empty();
  state->name = state->name_is_set ? settings.server_name : host;
  state->authorities =
      settings.ca.place.empty() ? "this system, since redis.tls_ca_file names none" : settings.ca.place;
  state->certificate = settings.certificate.place;
  state_ = std::move(state);
}

std::unique_ptr<Transport> TlsContext::over(std::unique_ptr<Transport> below) const {
  return std::make_unique<TlsTransport>(state_, std::move(below));
}

}  // namespace visitd
