// Lets in who sends a token whose digest is the configuration's.

#include "tidegate.hpp"

class Token {
public:
    static tidegate::Result<Token> configure(tidegate::Configuration configuration) {
        // The host has checked the configuration against the schema.
        return Token(configuration.string("header", "x-token"), configuration.string("digest"));
    }

    tidegate::Result<tidegate::Verdict> authorize() const {
        auto token = tidegate::request::header(header_);
        if (!token) return tidegate::Unauthorized{"Token"};
        auto digest = tidegate::crypto::digest(tidegate::crypto::Digest::sha256, *token);
        if (!tidegate::crypto::equal(tidegate::hex(digest), digest_)) return tidegate::Forbidden{"another token"};
        return tidegate::Allow{"friend"};
    }

private:
    Token(std::string_view header, std::string_view digest) : header_(header), digest_(digest) {}

    std::string header_, digest_;
};

TIDEGATE_EXPORT(Token)
