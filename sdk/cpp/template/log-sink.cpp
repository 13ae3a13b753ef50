// Writes down the requests that failed.

#include <charconv>

#include "tidegate.hpp"

class Failures {
public:
    static tidegate::Result<Failures> configure(tidegate::Configuration configuration) {
        return Failures(static_cast<int>(configuration.number("least", 400)));
    }

    tidegate::Result<tidegate::Written> write(const tidegate::Records &records) const {
        std::vector<std::string> lines;
        for (const tidegate::Record &record : records) {
            std::string_view status = record[status_].value_or("0");
            if (number(status) < least_) continue;
            lines.push_back(std::string(status) + " " + std::string(record[route_].value_or("-")));
        }
        tidegate::log_output::write(lines);
        return tidegate::Written{};
    }

private:
    explicit Failures(int least) : least_(least) {}

    static int number(std::string_view digits) {
        int number = 0;
        std::from_chars(digits.data(), digits.data() + digits.size(), number);
        return number;
    }

    int least_;
    std::size_t route_ = tidegate::reads::context("routeKey");
    std::size_t status_ = tidegate::reads::context("status");
};

TIDEGATE_EXPORT(Failures)
