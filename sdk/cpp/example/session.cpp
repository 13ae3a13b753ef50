// Lets in who has a session: asks the service that keeps them, and remembers for a minute what it said.

#include "tidegate.hpp"

namespace {

using tidegate::Result;
using tidegate::Verdict;

constexpr std::uint32_t remembered_ms = 60'000;

class Session {
public:
    static Result<Session> configure(tidegate::Configuration configuration) {
        return Session(configuration.string("service"));
    }

    Result<Verdict> authorize() const {
        auto token = tidegate::given(token_);
        if (!token) return tidegate::Unauthorized{"Session"};
        bool ends = tidegate::given(method_) == "DELETE";
        if (ends) tidegate::shared_cache::remove(*token);  // after this request there is no such session
        if (auto id = tidegate::shared_cache::get(*token)) {
            tidegate::metrics::count("remembered");
            return tidegate::Allow{std::string(*id)};
        }
        tidegate::metrics::count("asked");
        auto asked = ask(*token);
        if (auto *error = std::get_if<tidegate::Error>(&asked)) return *error;
        auto id = std::get<0>(asked);
        if (!id) return tidegate::Forbidden{"no such session"};
        tidegate::shared_cache::set(*token, *id, remembered_ms);
        return tidegate::Allow{*id};
    }

private:
    explicit Session(std::string_view service) : service_(service) {}

    // Whose session it is.
    Result<std::optional<std::string>> ask(std::string_view token) const {
        auto secret = tidegate::secrets::get("sessions");
        if (!secret) return tidegate::Error{"the node has no secret `sessions`"};
        auto sent = tidegate::http_client::send({
            .uri = service_,
            .method = "POST",
            .headers = {{"authorization", "Bearer " + std::string(*secret)}},
            .body = std::string(token),
            .timeout_ms = 2000,
        });
        if (auto *error = std::get_if<tidegate::Error>(&sent)) return *error;
        auto &answer = std::get<0>(sent);
        switch (answer.status) {
            case 200: return std::optional(std::string(tidegate::Configuration(answer.body).string("id")));
            case 404: return std::optional<std::string>{};
            default: return tidegate::Error{"the service answered " + std::to_string(answer.status)};
        }
    }

    std::string service_;
    std::size_t token_ = tidegate::reads::header("x-session");
    std::size_t method_ = tidegate::reads::method();
};

}  // namespace

TIDEGATE_EXPORT(Session)
