// Lets in who has an API key of the node, or a token that the identity provider has signed (RFC 7519, ES256).

#include <charconv>

#include "tidegate.hpp"

namespace {

using tidegate::Result;
using tidegate::Verdict;

// A token's parts, each without base64url, and what the signature is over.
struct Token {
    std::string_view header, claims, signature, message;

    static std::optional<Token> parse(std::string_view text) {
        std::size_t first = text.find('.'), last = text.rfind('.');
        if (first == last) return std::nullopt;
        auto header = tidegate::from_base64url(text.substr(0, first));
        auto claims = tidegate::from_base64url(text.substr(first + 1, last - first - 1));
        auto signature = tidegate::from_base64url(text.substr(last + 1));
        if (!header || !claims || !signature) return std::nullopt;
        return Token{*header, *claims, *signature, text.substr(0, last)};
    }
};

class Visitor {
public:
    static Result<Visitor> configure(tidegate::Configuration configuration) {
        return Visitor(configuration.string("provider"));
    }

    Result<Verdict> authorize() const {
        if (auto value = tidegate::given(api_key_)) return by_key(*value);
        auto authorization = tidegate::given(authorization_);
        if (!authorization || !authorization->starts_with("Bearer ")) return tidegate::Unauthorized{"Bearer"};
        auto token = Token::parse(authorization->substr(7));
        if (!token) return tidegate::Unauthorized{"Bearer"};
        return by_token(*token);
    }

private:
    explicit Visitor(std::string_view provider) : provider_(provider) {}

    static Verdict by_key(std::string_view value) {
        auto key = tidegate::api_keys::find(value);
        if (!key) return tidegate::Forbidden{"unknown API key"};
        return tidegate::Allow{std::string(key->name), {}, std::string(key->id)};
    }

    Result<Verdict> by_token(const Token &token) const {
        auto found = find_key(tidegate::Configuration(token.header).string("kid"));
        if (auto *error = std::get_if<tidegate::Error>(&found)) return *error;
        auto key = std::get<0>(found);
        auto claims = tidegate::Configuration(token.claims);
        if (!key || !is_signed(token, *key) || 1000 * claims.number("exp") <= now()) return tidegate::Unauthorized{"Bearer"};
        return tidegate::Allow{std::string(claims.string("sub"))};
    }

    // The provider's key of this id; one that is new may not be in the set that the node keeps.
    Result<std::optional<std::string_view>> find_key(std::string_view id) const {
        for (bool refresh : {false, true}) {
            auto keys = tidegate::jwks::fetch(provider_, refresh);
            if (auto *error = std::get_if<tidegate::Error>(&keys)) return *error;
            if (auto key = tidegate::jwks::find(std::get<0>(keys), id)) return key;
        }
        return std::optional<std::string_view>{};
    }

    // An unfit key signs nothing.
    static bool is_signed(const Token &token, std::string_view key) {
        auto algorithm = tidegate::crypto::Signature::es256;
        auto valid = tidegate::crypto::verify(algorithm, key, token.message, token.signature);
        return valid.index() == 0 && std::get<0>(valid);
    }

    double now() const {
        std::string_view digits = tidegate::given(now_).value_or("");
        std::uint64_t milliseconds = UINT64_MAX;
        std::from_chars(digits.data(), digits.data() + digits.size(), milliseconds);
        return static_cast<double>(milliseconds);
    }

    std::string provider_;
    std::size_t api_key_ = tidegate::reads::header("x-api-key");
    std::size_t authorization_ = tidegate::reads::header("authorization");
    std::size_t now_ = tidegate::reads::context("requestTimeEpoch");
};

}  // namespace

TIDEGATE_EXPORT(Visitor)
