// Demands a header, and a body of one media type that is not too long.

#include <strings.h>

#include "tidegate.hpp"

class Submission {
public:
    static tidegate::Result<Submission> configure(tidegate::Configuration configuration) {
        return Submission(configuration);
    }

    tidegate::Result<tidegate::Validity> validate() const {
        if (!tidegate::given(named_)) return tidegate::InvalidParameters{"the header " + header_ + " is missing"};
        if (!is_supported(tidegate::given(content_type_).value_or(""))) return tidegate::UnsupportedMediaType{};
        if (tidegate::request::body().size() > body_bytes_max_) {
            return tidegate::InvalidBody{"the body is over " + std::to_string(body_bytes_max_) + " bytes"};
        }
        return tidegate::Valid{};
    }

private:
    explicit Submission(tidegate::Configuration configuration)
        : header_(configuration.string("header", "idempotency-key")),
          media_type_(configuration.string("media-type", "application/json")),
          body_bytes_max_(static_cast<std::uint32_t>(configuration.number("body-bytes-max", 1024))),
          // The host hands them over with each call, which costs half of what asking for them does.
          named_(tidegate::reads::header(header_)),
          content_type_(tidegate::reads::header("content-type")) {}

    // Whether a content type is of the media type, in whatever letters and with whatever parameters.
    bool is_supported(std::string_view type) const {
        type = type.substr(0, type.find(';'));
        type = type.substr(0, type.find_last_not_of(" \t") + 1);
        return type.size() == media_type_.size() && strncasecmp(type.data(), media_type_.data(), type.size()) == 0;
    }

    std::string header_, media_type_;
    std::uint32_t body_bytes_max_;
    std::size_t named_, content_type_;
};

TIDEGATE_EXPORT(Submission)
