// Of all unit tests: what a developer's shell has set of ours is not what they are about.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

int main(int count, char** arguments) {
  std::vector<std::string> ours;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    if (text.starts_with("VISITD_")) ours.push_back(text.substr(0, text.find('=')));
  }
  for (const std::string& name : ours) unsetenv(name.c_str());
  return doctest::Context(count, arguments).run();
}
