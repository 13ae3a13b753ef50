// Says how long a response may be kept, and not what made it.

#include "tidegate.hpp"

class Lifetime {
public:
    static tidegate::Result<Lifetime> configure(tidegate::Configuration configuration) {
        return Lifetime(configuration.number("max-age", 60));
    }

    tidegate::Result<tidegate::Edits> transform_response() const {
        std::string value = tidegate::response::status() < 400 ? lifetime_ : "no-store";
        return tidegate::Edits{tidegate::SetHeader{"cache-control", value}, tidegate::RemoveHeader{"server"}};
    }

private:
    explicit Lifetime(double seconds) : lifetime_("max-age=" + std::to_string(static_cast<long long>(seconds))) {}

    std::string lifetime_;
};

TIDEGATE_EXPORT(Lifetime)
