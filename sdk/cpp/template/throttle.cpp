// Admits so many requests of each caller: some a second and, where configured, some a day.

#include "tidegate.hpp"

class Clients {
public:
    static tidegate::Result<Clients> configure(tidegate::Configuration configuration) {
        return Clients(configuration);
    }

    tidegate::Result<tidegate::Admission> admit() const {
        auto name = tidegate::given(client_);
        if (!name && !anonymous_) return tidegate::Reject{1000};  // a name is missing, not time
        std::string key = "client " + std::string(name.value_or(""));
        auto retry_ms = tidegate::rate_limit::take(key, rate_, burst_);
        if (retry_ms) return tidegate::Reject{*retry_ms};
        if (limit_ == 0) return tidegate::Admit{};

        auto result = tidegate::quota::take(key, 1, {limit_, tidegate::quota::Period::day});
        if (auto *error = std::get_if<tidegate::Error>(&result)) return *error;
        auto taken = *std::get_if<tidegate::quota::Taken>(&result);
        if (!taken.admitted) return tidegate::Exceeded{taken.renews_in_ms};
        return tidegate::Admit{};
    }

private:
    explicit Clients(tidegate::Configuration configuration)
        : rate_(configuration.number("rate")),
          burst_(static_cast<std::uint32_t>(configuration.number("burst"))),
          limit_(static_cast<std::uint32_t>(configuration.number("limit"))),
          anonymous_(configuration.boolean("anonymous")),
          // The host hands the header over with each call, which costs half of what asking for it does.
          client_(tidegate::reads::header(configuration.string("header", "x-client"))) {}

    double rate_;
    std::uint32_t burst_, limit_;
    bool anonymous_;
    std::size_t client_;
};

TIDEGATE_EXPORT(Clients)
