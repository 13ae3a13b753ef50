// A function that greets.

#include "tidegate-function.hpp"

static tidegate::Response text(std::uint16_t status, std::string content) {
    return {status, {{"content-type", "text/plain"}}, std::move(content)};
}

static tidegate::Response greet(const tidegate::function::Request &request) {
    if (request.path() != "/greet") return text(404, "there is no " + std::string(request.path()) + "\n");
    std::string_view name = request.parameter("name").value_or("world");
    return text(200, "Hello, " + std::string(name) + "!\n");
}

TIDEGATE_FUNCTION(greet)
