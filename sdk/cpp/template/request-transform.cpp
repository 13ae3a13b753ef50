// Gives the body in capital letters, after a prefix.

#include "tidegate.hpp"

class Capitals {
public:
    static tidegate::Result<Capitals> configure(tidegate::Configuration configuration) {
        return Capitals(configuration.string("prefix", "> "));
    }

    tidegate::Result<tidegate::Outcome> transform_request() const {
        auto body = tidegate::request::body();
        if (body.empty()) return tidegate::Edits{};
        std::string changed = prefix_;
        for (char letter : body) changed += letter >= 'a' && letter <= 'z' ? char(letter - 'a' + 'A') : letter;
        return tidegate::Edits{tidegate::SetBody{changed}, tidegate::SetHeader{"x-changed", "yes"}};
    }

private:
    explicit Capitals(std::string_view prefix) : prefix_(prefix) {}

    std::string prefix_;
};

TIDEGATE_EXPORT(Capitals)
