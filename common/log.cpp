#include "common/log.hpp"

#include <spdlog/sinks/dup_filter_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <string>

namespace visitd::log {

void start(std::string_view process, bool debug) {
  auto once = std::make_shared<spdlog::sinks::dup_filter_sink_mt>(std::chrono::seconds(60));
  once->add_sink(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  auto logger = std::make_shared<spdlog::logger>(std::string(process), std::move(once));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %n[%P] %l: %v");
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  set_debug(debug);
}

void set_debug(bool debug) {
  spdlog::default_logger_raw()->set_level(debug ? spdlog::level::debug : spdlog::level::info);
}

void write(Level level, std::string_view message) {
  constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                  spdlog::level::err};
  spdlog::log(levels[static_cast<int>(level)], message);
}

}  // namespace visitd::log
