// What a Tidegate plugin in C++ is written with.
//
// A plugin is a class with a static function `configure` and a member function for each step that its plugin.toml names:
//
//     tidegate::Result<Self> configure(tidegate::Configuration);               static; an Error refuses the deployment
//     tidegate::Result<tidegate::Verdict> authorize();
//     tidegate::Result<tidegate::Admission> admit();
//     tidegate::Result<tidegate::Validity> validate();
//     tidegate::Result<tidegate::Outcome> transform_request();
//     tidegate::Result<tidegate::Plan> integrate();
//     tidegate::Result<std::vector<tidegate::Edit>> transform_response();
//     tidegate::Result<tidegate::Written> write(const tidegate::Records &);
//
// TIDEGATE_EXPORT(Self) makes a component of it. An Error of a step means that no decision could be made: the binding's
// fault policy applies. Plugins are compiled without exceptions.
//
// The request in hand is read by the functions of this namespace, value by value; the views that they give are good until
// the step call ends, those of a Configuration for ever. A component imports only the interfaces whose functions it calls, so
// a binding needs grants for those only. Units and bounds are documented in the WIT package tidegate:gateway.
#ifndef TIDEGATE_HPP
#define TIDEGATE_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tidegate.h"

namespace tidegate {

// ---- Outcomes ----

// Why there is none.
struct Error {
    std::string reason;
};

template <class T>
using Result = std::variant<T, Error>;

// A name and its value.
struct Field {
    std::string name;
    std::string value;
};

// Proceed, as this principal; each of context becomes $context.authorizer.{name}.
struct Allow {
    std::string id;
    std::vector<Field> context = {};
    // The API key that usage is counted on, or none.
    std::string usage_identifier_key = {};
};
// 401, with a WWW-Authenticate challenge unless it is empty.
struct Unauthorized {
    std::string challenge = {};
};
// 403; the reason is for the log.
struct Forbidden {
    std::string reason = {};
};
using Verdict = std::variant<Allow, Unauthorized, Forbidden>;

// Proceed.
struct Admit {};
// 429; a retry can succeed after this many milliseconds.
struct Reject {
    std::uint32_t retry_ms;
};
// 429, of a quota; it begins anew after this many milliseconds.
struct Exceeded {
    std::uint32_t renews_in_ms;
};
using Admission = std::variant<Admit, Reject, Exceeded>;

// Proceed.
struct Valid {};
// 400, with a message for the caller.
struct InvalidParameters {
    std::string message;
};
// 400, with a message for the caller.
struct InvalidBody {
    std::string message;
};
// 415.
struct UnsupportedMediaType {};
using Validity = std::variant<Valid, InvalidParameters, InvalidBody, UnsupportedMediaType>;

// Changes to a message; they are applied in their order.
struct SetHeader {
    std::string name, value;
};
struct AppendHeader {
    std::string name, value;
};
struct RemoveHeader {
    std::string name;
};
struct RenameHeader {
    std::string name, to;
};
struct SetBody {
    std::string body;
};
// Of requests only.
struct SetQueryParameter {
    std::string name, value;
};
struct RemoveQueryParameter {
    std::string name;
};
struct RenameQueryParameter {
    std::string name, to;
};
struct SetPath {
    std::string path;
};
// Of responses only.
struct SetStatus {
    std::uint16_t status;
};
using Edit = std::variant<SetHeader, AppendHeader, RemoveHeader, RenameHeader, SetBody, SetQueryParameter,
                          RemoveQueryParameter, RenameQueryParameter, SetPath, SetStatus>;
using Edits = std::vector<Edit>;

struct Response {
    std::uint16_t status = 200;
    std::vector<Field> headers = {};
    std::string body = {};
};

// A request transform applies edits, or answers by itself.
using Outcome = std::variant<Edits, Response>;

// Sends the request to a server: an upstream of the node, or a granted host.
struct Forward {
    std::string uri;
    // The request's own where it is empty.
    std::string method = {};
    Edits edits = {};
    // Until the answer's header section is there; the route's timeout where it is 0.
    std::uint32_t timeout_ms = 0;
};
// Invokes a function of the node.
struct Invoke {
    std::string function;
    Edits edits = {};
    // As that of Forward.
    std::uint32_t timeout_ms = 0;
};
using Plan = std::variant<Response, Forward, Invoke>;

// The records were written down.
struct Written {};

// ---- Texts ----

inline std::string_view view(tg_text text) { return {text.data, text.size}; }
inline tg_text text(std::string_view view) { return {view.data(), view.size()}; }
// Octets as lower case hexadecimal digits.
inline std::string_view hex(std::string_view octets) { return view(tg_hex(text(octets))); }

// The octets of base64url without padding (RFC 4648 section 5), as tokens have it; none for any other text.
inline std::optional<std::string_view> from_base64url(std::string_view digits) {
    tg_text octets;
    if (!tg_from_base64url(text(digits), &octets)) return std::nullopt;
    return view(octets);
}

// The configuration: members of its one JSON object, which the host has checked against the plugin's schema. It reads any
// other object as well, such as a token's claims; what is no JSON has no members.
class Configuration {
public:
    explicit Configuration(tg_configuration document) : document_(document) {}
    explicit Configuration(std::string_view document) : document_(text(document)) {}
    std::string_view string(const char *name, std::string_view fallback = {}) const {
        return view(tg_string(document_, name, text(fallback)));
    }
    double number(const char *name, double fallback = 0) const { return tg_number(document_, name, fallback); }
    bool boolean(const char *name, bool fallback = false) const { return tg_boolean(document_, name, fallback); }
    // The document, for a JSON reader of your own.
    std::string_view json() const { return view(document_); }

private:
    tg_configuration document_;
};

// ---- The request in hand ----

namespace details {
// A copy that lives until the call ends, as the C library wants what it is given.
inline tg_text keep(std::string_view view) { return tg_join(text(view), TG("")); }

template <class Function>
std::optional<std::string_view> look_up(Function function, std::string_view name) {
    tg_text value;
    if (!function(text(name), &value)) return std::nullopt;
    return view(value);
}
inline std::vector<std::pair<std::string_view, std::string_view>> pairs(tg_fields fields) {
    std::vector<std::pair<std::string_view, std::string_view>> pairs;
    for (std::size_t i = 0; i < fields.size; i++) {
        pairs.emplace_back(view(fields.items[i].name), view(fields.items[i].value));
    }
    return pairs;
}
}  // namespace details

using Views = std::vector<std::pair<std::string_view, std::string_view>>;

namespace request {
inline std::string_view method() { return view(tg_method()); }
// Below the stage, percent-encoded, without the query.
inline std::string_view path() { return view(tg_path()); }
inline std::optional<std::string_view> query_string() {
    tg_text value;
    if (!tg_query_string(&value)) return std::nullopt;
    return view(value);
}
inline std::optional<std::string_view> header(std::string_view name) { return details::look_up(tg_header, name); }
// All field lines in the order received, names in lower case.
inline Views headers() { return details::pairs(tg_headers()); }
inline std::optional<std::string_view> query_parameter(std::string_view name) {
    return details::look_up(tg_query_parameter, name);
}
inline std::optional<std::string_view> path_parameter(std::string_view name) {
    return details::look_up(tg_path_parameter, name);
}
inline std::optional<std::string_view> stage_variable(std::string_view name) {
    return details::look_up(tg_stage_variable, name);
}
// A variable of $context, without the prefix: "requestId".
inline std::optional<std::string_view> context(std::string_view name) { return details::look_up(tg_context, name); }
// The content. A component that calls it makes the host collect the body first.
inline std::string_view body() { return view(tg_request_body()); }
}  // namespace request

// Values that the host hands over, which costs half of asking for them; a log sink has no others. To be called in configure,
// at most 64 times: each gives the value's place.
namespace reads {
inline std::size_t method() { return tg_read(TG_METHOD, TG("")); }
inline std::size_t path() { return tg_read(TG_PATH, TG("")); }
inline std::size_t query_string() { return tg_read(TG_QUERY_STRING, TG("")); }
inline std::size_t header(std::string_view name) { return tg_read(TG_HEADER, details::keep(name)); }
inline std::size_t query_parameter(std::string_view name) { return tg_read(TG_QUERY_PARAMETER, details::keep(name)); }
inline std::size_t path_parameter(std::string_view name) { return tg_read(TG_PATH_PARAMETER, details::keep(name)); }
inline std::size_t stage_variable(std::string_view name) { return tg_read(TG_STAGE_VARIABLE, details::keep(name)); }
// A variable of $context, without the prefix: "requestId".
inline std::size_t context(std::string_view name) { return tg_read(TG_CONTEXT, details::keep(name)); }
}  // namespace reads

// In a step call, the value at a place that `reads` gave; none where the request has none.
inline std::optional<std::string_view> given(std::size_t place) {
    tg_text value;
    if (!tg_given(place, &value)) return std::nullopt;
    return view(value);
}

// The response in hand, in transform_response.
namespace response {
inline std::uint16_t status() { return tg_response_status(); }
inline std::optional<std::string_view> header(std::string_view name) {
    return details::look_up(tg_response_header, name);
}
inline Views headers() { return details::pairs(tg_response_headers()); }
// The content. A component that calls it makes the host collect the body first.
inline std::string_view body() { return view(tg_response_body()); }
}  // namespace response

// ---- What a binding must be granted ----

// Grant: crypto.
namespace crypto {
enum class Digest { sha256 = TG_SHA256, sha384 = TG_SHA384, sha512 = TG_SHA512 };
inline std::string_view digest(Digest algorithm, std::string_view data) {
    return view(tg_digest(static_cast<tg_digest_algorithm>(algorithm), text(data)));
}
inline std::string_view hmac(Digest algorithm, std::string_view key, std::string_view data) {
    return view(tg_hmac(static_cast<tg_digest_algorithm>(algorithm), text(key), text(data)));
}
// Compares in a time that depends on the lengths only.
inline bool equal(std::string_view a, std::string_view b) { return tg_equal_secret(text(a), text(b)); }

enum class Signature {
    hs256 = TG_HS256,
    hs384 = TG_HS384,
    hs512 = TG_HS512,
    rs256 = TG_RS256,
    rs384 = TG_RS384,
    rs512 = TG_RS512,
    ps256 = TG_PS256,
    ps384 = TG_PS384,
    ps512 = TG_PS512,
    es256 = TG_ES256,
    es384 = TG_ES384,
    ed_dsa = TG_ED_DSA,
};
// Whether the signature is the message's under key, a JSON Web Key; an Error where that is unfit.
inline Result<bool> verify(Signature algorithm, std::string_view key, std::string_view message,
                           std::string_view signature) {
    tg_text error = {nullptr, 0};
    bool valid = tg_verify(static_cast<tg_signature_algorithm>(algorithm), text(key), text(message), text(signature),
                           &error);
    if (error.data != nullptr) return Error{std::string(view(error))};
    return valid;
}
}  // namespace crypto

// Key sets of identity providers. Grant: jwks.
namespace jwks {
// The key set at uri, as JSON. `refresh` fetches it again, at most once in 30 seconds: for a token that names an unknown key.
inline Result<std::string_view> fetch(std::string_view uri, bool refresh = false) {
    tg_text keys, error;
    if (!tg_fetch_keys(text(uri), refresh, &keys, &error)) return Error{std::string(view(error))};
    return view(keys);
}
// The key with this "kid" in a set, as JSON.
inline std::optional<std::string_view> find(std::string_view keys, std::string_view id) {
    tg_text key;
    if (!tg_find_key(text(keys), text(id), &key)) return std::nullopt;
    return view(key);
}
}  // namespace jwks

// The node's API keys. Grant: api-keys.
namespace api_keys {
struct ApiKey {
    std::string_view id, name;
};
// The enabled key of this value whose usage plan includes this API and stage.
inline std::optional<ApiKey> find(std::string_view value) {
    tg_api_key key;
    if (!tg_find_api_key(text(value), &key)) return std::nullopt;
    return ApiKey{view(key.id), view(key.name)};
}
}  // namespace api_keys

// A cache that all instances of a binding share. Grant: shared-cache.
namespace shared_cache {
inline std::optional<std::string_view> get(std::string_view key) { return details::look_up(tg_cache_get, key); }
inline void set(std::string_view key, std::string_view value, std::uint32_t ttl_ms) {
    tg_cache_set(text(key), text(value), ttl_ms);
}
inline void remove(std::string_view key) { tg_cache_delete(text(key)); }
}  // namespace shared_cache

// Token buckets. Grant: rate-limit.
namespace rate_limit {
// Takes a token: nothing where there was one, or the milliseconds until there is.
inline std::optional<std::uint32_t> take(std::string_view bucket, double rate, std::uint32_t burst) {
    std::uint32_t retry_ms = 0;
    if (tg_take_token(text(bucket), rate, burst, &retry_ms)) return std::nullopt;
    return retry_ms;
}
}  // namespace rate_limit

// What may be taken in a day, week or month, counted for all nodes. Grant: quota.
namespace quota {
enum class Period { day = TG_DAY, week = TG_WEEK, month = TG_MONTH };
struct Terms {
    // In one period.
    std::uint32_t limit;
    Period period;
    // Subtracted from the limit in the period of the first use.
    std::uint32_t offset = 0;
};
struct Taken {
    // Otherwise nothing was taken.
    bool admitted;
    // What may still be taken in this period.
    std::uint32_t left;
    // The milliseconds until the next one begins.
    std::uint32_t renews_in_ms;
};
// Takes `amount`, 0 to look only; an Error where that is not possible.
inline Result<Taken> take(std::string_view quota, std::uint32_t amount, Terms terms) {
    tg_taken taken;
    tg_text error;
    tg_terms its_terms = {terms.limit, terms.offset, static_cast<tg_period>(terms.period)};
    if (!tg_take_quota(text(quota), amount, its_terms, &taken, &error)) return Error{std::string(view(error))};
    return Taken{taken.admitted, taken.left, taken.renews_in_ms};
}
}  // namespace quota

// Secrets by name. Grant: secrets.
namespace secrets {
inline std::optional<std::string_view> get(std::string_view name) { return details::look_up(tg_secret, name); }
}  // namespace secrets

// Counters of the plugin's own. Grant: metrics.
namespace metrics {
inline void count(std::string_view event, std::uint32_t amount = 1) { tg_count(text(event), amount); }
}  // namespace metrics

// Where log records go. Grant: log-output.
namespace log_output {
// Writes whole lines to the binding's destination; the host adds the line ends.
inline void write(const std::vector<std::string> &lines) {
    std::vector<tg_text> texts;
    for (const std::string &line : lines) texts.push_back(text(line));
    tg_write_lines(texts.data(), texts.size());
}
}  // namespace log_output

// Requests to other servers. Grant: http-client.
namespace http_client {
struct Request {
    std::string uri;
    std::string method = "GET";
    std::vector<Field> headers = {};
    std::string body = {};
    std::uint32_t timeout_ms = 5000;
};
// Sends it and waits for the whole response.
inline Result<Response> send(const Request &request) {
    std::vector<tg_field> fields;
    for (const Field &field : request.headers) fields.push_back({text(field.name), text(field.value)});
    tg_response answer = tg_send(text(request.method), text(request.uri), {fields.data(), fields.size()},
                                 text(request.body), request.timeout_ms);
    if (answer.status == 0) return Error{std::string(view(answer.body))};
    Response response{answer.status, {}, std::string(view(answer.body))};
    for (std::size_t i = 0; i < answer.headers.size; i++) {
        const tg_field &field = answer.headers.items[i];
        response.headers.push_back({std::string(view(field.name)), std::string(view(field.value))});
    }
    return response;
}
}  // namespace http_client

// The node's log, with the binding's name and the request's id. Needs no grant.
namespace log {
inline void debug(std::string_view message) { tg_log(TG_DEBUG, text(message)); }
inline void info(std::string_view message) { tg_log(TG_INFO, text(message)); }
inline void warn(std::string_view message) { tg_log(TG_WARN, text(message)); }
inline void error(std::string_view message) { tg_log(TG_ERROR, text(message)); }
}  // namespace log

// One served request, in write. Nothing else is known of it: tidegate::request traps there.
class Record {
public:
    Record(tg_records records, std::size_t number) : records_(records), number_(number) {}
    // The value at a place that `reads` gave; none where the request had none.
    std::optional<std::string_view> operator[](std::size_t place) const {
        tg_text value;
        if (!tg_recorded(records_, number_, place, &value)) return std::nullopt;
        return view(value);
    }

private:
    tg_records records_;
    std::size_t number_;
};
// 1 to 256, the oldest first.
using Records = std::vector<Record>;

// ---- From the class to the C library's functions ----

namespace details {
inline tg_fields keep(const std::vector<Field> &fields) {
    tg_fields kept = {reinterpret_cast<tg_field *>(tg_allocate(fields.size() * sizeof(tg_field))), fields.size()};
    for (std::size_t i = 0; i < fields.size(); i++) kept.items[i] = {keep(fields[i].name), keep(fields[i].value)};
    return kept;
}

inline tg_response keep(const Response &response) {
    return {response.status, keep(response.headers), keep(response.body)};
}

template <class... Cases>
struct Match : Cases... {
    using Cases::operator()...;
};
template <class... Cases>
Match(Cases...) -> Match<Cases...>;

inline void apply(tg_edits *edits, const Edit &edit) {
    auto cases = Match{
        [&](const SetHeader &it) { tg_set_header(edits, text(it.name), text(it.value)); },
        [&](const AppendHeader &it) { tg_append_header(edits, text(it.name), text(it.value)); },
        [&](const RemoveHeader &it) { tg_remove_header(edits, text(it.name)); },
        [&](const RenameHeader &it) { tg_rename_header(edits, text(it.name), text(it.to)); },
        [&](const SetBody &it) { tg_set_body(edits, text(it.body)); },
        [&](const SetQueryParameter &it) { tg_set_query_parameter(edits, text(it.name), text(it.value)); },
        [&](const RemoveQueryParameter &it) { tg_remove_query_parameter(edits, text(it.name)); },
        [&](const RenameQueryParameter &it) { tg_rename_query_parameter(edits, text(it.name), text(it.to)); },
        [&](const SetPath &it) { tg_set_path(edits, text(it.path)); },
        [&](const SetStatus &it) { tg_set_status(edits, it.status); },
    };
    std::visit(cases, edit);
}

inline void apply(tg_edits *edits, const Edits &all) {
    for (const Edit &edit : all) apply(edits, edit);
}

// Hands the decision to `decide`, or the error over.
template <class T, class Decide>
bool finish(const Result<T> &result, tg_text *error, Decide decide) {
    if (const Error *failed = std::get_if<Error>(&result)) {
        *error = keep(failed->reason);
        return false;
    }
    decide(*std::get_if<T>(&result));
    return true;
}

// The one of this instance; never destroyed, as the instance is thrown away whole.
template <class Plugin>
Plugin *&configured() {
    static Plugin *plugin = nullptr;
    return plugin;
}

template <class Plugin>
bool configure(tg_configuration document, tg_text *error) {
    return finish(Result<Plugin>(Plugin::configure(Configuration(document))), error,
                  [](const Plugin &plugin) { configured<Plugin>() = new Plugin(plugin); });
}

inline void give(tg_verdict *out, const Verdict &verdict) {
    auto cases = Match{
        [&](const Allow &it) {
            *out = {tg_verdict::TG_ALLOW, keep(it.id), keep(it.context), keep(it.usage_identifier_key)};
        },
        [&](const Unauthorized &it) {
            *out = {tg_verdict::TG_UNAUTHORIZED, keep(it.challenge), {nullptr, 0}, TG("")};
        },
        [&](const Forbidden &it) {
            *out = {tg_verdict::TG_FORBIDDEN, keep(it.reason), {nullptr, 0}, TG("")};
        },
    };
    std::visit(cases, verdict);
}

inline void give(tg_admission *out, const Admission &admission) {
    auto cases = Match{
        [&](const Admit &) { *out = {tg_admission::TG_ADMIT, 0}; },
        [&](const Reject &it) { *out = {tg_admission::TG_REJECT, it.retry_ms}; },
        [&](const Exceeded &it) { *out = {tg_admission::TG_EXCEEDED, it.renews_in_ms}; },
    };
    std::visit(cases, admission);
}

inline void give(tg_validity *out, const Validity &validity) {
    auto cases = Match{
        [&](const Valid &) { *out = {tg_validity::TG_VALID, TG("")}; },
        [&](const InvalidParameters &it) { *out = {tg_validity::TG_INVALID_PARAMETERS, keep(it.message)}; },
        [&](const InvalidBody &it) { *out = {tg_validity::TG_INVALID_BODY, keep(it.message)}; },
        [&](const UnsupportedMediaType &) { *out = {tg_validity::TG_UNSUPPORTED_MEDIA_TYPE, TG("")}; },
    };
    std::visit(cases, validity);
}

inline void give(tg_plan *out, const Plan &plan) {
    auto cases = Match{
        [&](const Response &it) { out->response = keep(it); },
        [&](const Forward &it) {
            out->uri = keep(it.uri);
            out->method = keep(it.method);
            out->timeout_ms = it.timeout_ms;
            apply(&out->edits, it.edits);
        },
        [&](const Invoke &it) {
            out->function = keep(it.function);
            out->timeout_ms = it.timeout_ms;
            apply(&out->edits, it.edits);
        },
    };
    std::visit(cases, plan);
}
}  // namespace details
}  // namespace tidegate

// Makes a component of the class, for the steps that plugin.toml names.
#define TIDEGATE_EXPORT(Plugin)                                                            \
    extern "C" bool tg_configure(tg_configuration document, tg_text *error) {              \
        return tidegate::details::configure<Plugin>(document, error);                      \
    }                                                                                      \
    TIDEGATE_AUTHORIZER_(Plugin)                                                           \
    TIDEGATE_THROTTLE_(Plugin)                                                             \
    TIDEGATE_VALIDATOR_(Plugin)                                                            \
    TIDEGATE_REQUEST_TRANSFORM_(Plugin)                                                    \
    TIDEGATE_INTEGRATION_(Plugin)                                                          \
    TIDEGATE_RESPONSE_TRANSFORM_(Plugin)                                                   \
    TIDEGATE_LOG_SINK_(Plugin)

#define TIDEGATE_DECIDE_(Plugin, function, ...) \
    return tidegate::details::finish(tidegate::details::configured<Plugin>()->function(), error, __VA_ARGS__);

#ifdef TG_AUTHORIZER
#define TIDEGATE_AUTHORIZER_(Plugin)                                                              \
    extern "C" bool tg_authorize(tg_verdict *verdict, tg_text *error) {                           \
        TIDEGATE_DECIDE_(Plugin, authorize, [&](const tidegate::Verdict &it) { tidegate::details::give(verdict, it); }) \
    }
#else
#define TIDEGATE_AUTHORIZER_(Plugin)
#endif

#ifdef TG_THROTTLE
#define TIDEGATE_THROTTLE_(Plugin)                                                                \
    extern "C" bool tg_admit(tg_admission *admission, tg_text *error) {                           \
        TIDEGATE_DECIDE_(Plugin, admit, [&](const tidegate::Admission &it) { tidegate::details::give(admission, it); }) \
    }
#else
#define TIDEGATE_THROTTLE_(Plugin)
#endif

#ifdef TG_VALIDATOR
#define TIDEGATE_VALIDATOR_(Plugin)                                                               \
    extern "C" bool tg_validate(tg_validity *validity, tg_text *error) {                          \
        TIDEGATE_DECIDE_(Plugin, validate, [&](const tidegate::Validity &it) { tidegate::details::give(validity, it); }) \
    }
#else
#define TIDEGATE_VALIDATOR_(Plugin)
#endif

#ifdef TG_REQUEST_TRANSFORM
#define TIDEGATE_REQUEST_TRANSFORM_(Plugin)                                                       \
    extern "C" bool tg_transform_request(tg_edits *edits, tg_response *response, tg_text *error) { \
        TIDEGATE_DECIDE_(Plugin, transform_request, [&](const tidegate::Outcome &it) {            \
            if (const tidegate::Response *answer = std::get_if<tidegate::Response>(&it)) {        \
                *response = tidegate::details::keep(*answer);                                     \
            } else {                                                                              \
                tidegate::details::apply(edits, *std::get_if<tidegate::Edits>(&it));              \
            }                                                                                     \
        })                                                                                        \
    }
#else
#define TIDEGATE_REQUEST_TRANSFORM_(Plugin)
#endif

#ifdef TG_INTEGRATION
#define TIDEGATE_INTEGRATION_(Plugin)                                                             \
    extern "C" bool tg_integrate(tg_plan *plan, tg_text *error) {                                 \
        TIDEGATE_DECIDE_(Plugin, integrate, [&](const tidegate::Plan &it) { tidegate::details::give(plan, it); }) \
    }
#else
#define TIDEGATE_INTEGRATION_(Plugin)
#endif

#ifdef TG_RESPONSE_TRANSFORM
#define TIDEGATE_RESPONSE_TRANSFORM_(Plugin)                                                      \
    extern "C" bool tg_transform_response(tg_edits *edits, tg_text *error) {                      \
        TIDEGATE_DECIDE_(Plugin, transform_response,                                              \
                         [&](const tidegate::Edits &it) { tidegate::details::apply(edits, it); }) \
    }
#else
#define TIDEGATE_RESPONSE_TRANSFORM_(Plugin)
#endif

#ifdef TG_LOG_SINK
#define TIDEGATE_LOG_SINK_(Plugin)                                                                \
    extern "C" bool tg_write(tg_records records, tg_text *error) {                                \
        tidegate::Records all;                                                                    \
        for (std::size_t i = 0; i < records.size; i++) all.emplace_back(records, i);              \
        auto written = tidegate::details::configured<Plugin>()->write(all);                       \
        return tidegate::details::finish(written, error, [](const tidegate::Written &) {});       \
    }
#else
#define TIDEGATE_LOG_SINK_(Plugin)
#endif

#endif
