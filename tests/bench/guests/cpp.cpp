// Counts five headers: the authorizer of the benchmark's case `guest-cpp`.

#include "tidegate.hpp"

class FiveHeaders {
public:
    static tidegate::Result<FiveHeaders> configure(tidegate::Configuration) { return FiveHeaders(); }

    tidegate::Result<tidegate::Verdict> authorize() const {
        for (auto name : {"x-one", "x-two", "x-three", "x-four", "x-five"})
            if (!tidegate::request::header(name)) return tidegate::Forbidden{"fewer"};
        return tidegate::Allow{"five"};
    }
};

TIDEGATE_EXPORT(FiveHeaders)
