// What a function in C++ is written with: a standard wasi:http component that takes a whole request and gives a whole response.
//
//     tidegate::Response greet(const tidegate::function::Request &request);
//     TIDEGATE_FUNCTION(greet)
#ifndef TIDEGATE_FUNCTION_HPP
#define TIDEGATE_FUNCTION_HPP

#include "tidegate-function.h"
#include "tidegate.hpp"

namespace tidegate::function {

// Its views are good until the function returns.
class Request {
public:
    explicit Request(const tg_request &request) : request_(request) {}
    std::string_view method() const { return view(request_.method); }
    // Percent-encoded, without the query.
    std::string_view path() const { return view(request_.path); }
    // Without the `?`; empty where there is none.
    std::string_view query() const { return view(request_.query); }
    // The first value of a parameter of the query, decoded.
    std::optional<std::string_view> parameter(std::string_view name) const {
        tg_text value;
        if (!tg_parameter(&request_, text(name), &value)) return std::nullopt;
        return view(value);
    }
    Views headers() const { return details::pairs(request_.headers); }
    std::string_view body() const { return view(request_.body); }

private:
    const tg_request &request_;
};

}  // namespace tidegate::function

// Makes a component of the function.
#define TIDEGATE_FUNCTION(handler)                                             \
    extern "C" tg_response tg_handle(const tg_request *request) {              \
        return tidegate::details::keep(handler(tidegate::function::Request(*request))); \
    }

#endif
