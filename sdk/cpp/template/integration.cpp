// Sends requests to one of two upstreams, or answers all of them while both are closed.

#include "tidegate.hpp"

class Switch {
public:
    static tidegate::Result<Switch> configure(tidegate::Configuration configuration) {
        return Switch(configuration);
    }

    tidegate::Result<tidegate::Plan> integrate() const {
        if (!closed_.empty()) return tidegate::Response{503, {{"content-type", "text/plain"}}, closed_};
        bool previewing = !preview_.empty() && tidegate::given(previewing_);
        std::string uri = "http://" + (previewing ? preview_ : upstream_);
        uri += tidegate::given(path_).value_or("");
        if (auto query = tidegate::given(query_)) uri.append("?").append(*query);
        tidegate::Edits edits;
        if (previewing) edits.push_back(tidegate::RemoveHeader{"x-preview"});
        return tidegate::Forward{.uri = uri, .edits = edits, .timeout_ms = timeout_ms_};
    }

private:
    explicit Switch(tidegate::Configuration configuration)
        : upstream_(configuration.string("upstream")),
          preview_(configuration.string("preview")),
          closed_(configuration.string("closed")),
          timeout_ms_(static_cast<std::uint32_t>(configuration.number("timeout-ms"))) {}

    std::string upstream_, preview_, closed_;
    std::uint32_t timeout_ms_;
    // The host hands them over with each call, which costs half of what asking for them does.
    std::size_t path_ = tidegate::reads::path();
    std::size_t query_ = tidegate::reads::query_string();
    std::size_t previewing_ = tidegate::reads::header("x-preview");
};

TIDEGATE_EXPORT(Switch)
