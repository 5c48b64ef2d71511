#include "common/config/settings.hpp"

#include "common/config/setting_checks.hpp"
#include "common/config/setting_rows.hpp"
#include "common/config/setting_secrets.hpp"
#include "common/config/setting_sources.hpp"
#include "common/config/setting_values.hpp"

namespace visitd {

Settings load_settings(const std::string& path, Secrets secrets, OriginalNames originals) {
  setting::Sources sources;
  if (!path.empty()) setting::read_settings_file(path, sources);
  setting::read_environment(originals, sources);
  setting::Draft draft = setting::values_of(sources);
  setting::make_shards(draft, sources, secrets);
  setting::read_owner_key(draft, sources, secrets);
  setting::check_together(draft, sources);
  return draft;
}

}  // namespace visitd
