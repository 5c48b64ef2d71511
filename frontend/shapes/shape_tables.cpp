#include "frontend/shapes/shape_tables.hpp"

#include <array>
#include <utility>

namespace visitd {

std::span<const Route> shape_routes(std::string_view shape) noexcept {
  using Table = std::span<const Route> (*)() noexcept;
  constexpr std::array<std::pair<std::string_view, Table>, 6> tables{{{"countapi", &countapi_routes},
                                                                      {"abacus", &abacus_routes},
                                                                      {"goatcounter", &goatcounter_routes},
                                                                      {"busuanzi", &busuanzi_routes},
                                                                      {"vercount", &vercount_routes},
                                                                      {"hits", &hits_routes}}};
  for (const auto& [name, table] : tables) {
    if (name == shape) return table();
  }
  return {};
}

}  // namespace visitd
