/* What a Tidegate plugin in C is written with.
 *
 * A plugin defines tg_configure and the function of each step that its plugin.toml names; it calls the functions below.
 * All texts and lists that it gets or makes here live until the step call ends (in tg_configure: for ever), so there is
 * nothing to free. What has to outlive a call goes into the host (tg_cache_set) or is made in tg_configure.
 *
 * A component imports only the interfaces whose functions it calls, so a binding needs grants for those only. The meaning
 * of each value, its units and bounds are documented in the WIT package tidegate:gateway. */
#ifndef TIDEGATE_H
#define TIDEGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Octets with a length; text is UTF-8. Not ended by a zero. */
typedef struct {
    const char *data;
    size_t size;
} tg_text;

/* A literal as a text: tg_header(TG("authorization"), &value). */
#ifdef __cplusplus
#define TG(literal) (tg_text{(literal), sizeof(literal) - 1})
#else
#define TG(literal) ((tg_text){(literal), sizeof(literal) - 1})
#endif

/* A name and its value. */
typedef struct {
    tg_text name;
    tg_text value;
} tg_field;

typedef struct {
    tg_field *items;
    size_t size;
} tg_fields;

/* ---- Texts ---- */

bool tg_equal(tg_text a, tg_text b);
/* Both, one after the other. */
tg_text tg_join(tg_text a, tg_text b);
/* Octets as lower case hexadecimal digits. */
tg_text tg_hex(tg_text octets);
/* The octets of base64url without padding (RFC 4648 section 5), as tokens have it; false for any other text. */
bool tg_from_base64url(tg_text text, tg_text *octets);
/* A number in decimal digits; printf would bring files and streams into the component. */
tg_text tg_decimal(uint64_t number);
/* The number of decimal digits; false for any other text, and for what is over 64 bits. */
bool tg_from_decimal(tg_text digits, uint64_t *number);
/* Room for size octets. */
char *tg_allocate(size_t size);

/* ---- The configuration: members of its one JSON object, checked by the host against the plugin's schema ----
 *
 * They read any other object as well, such as a token's claims; what is no JSON has no members. */

typedef tg_text tg_configuration;

/* The member, a string, or fallback where there is none. */
tg_text tg_string(tg_configuration configuration, const char *name, tg_text fallback);
double tg_number(tg_configuration configuration, const char *name, double fallback);
bool tg_boolean(tg_configuration configuration, const char *name, bool fallback);

/* ---- Values that the host hands over, which costs half of asking for them; a log sink has no others ---- */

enum tg_reading {
    TG_METHOD,
    TG_PATH,
    TG_QUERY_STRING,
    TG_HEADER,
    TG_QUERY_PARAMETER,
    TG_PATH_PARAMETER,
    TG_STAGE_VARIABLE,
    TG_CONTEXT
};
/* In tg_configure, at most 64 times: asks for this value with each call, and gives its place. The first three have no name:
 * TG(""). */
size_t tg_read(enum tg_reading reading, tg_text name);
/* In a step call, the value at a place; false where the request has none. */
bool tg_given(size_t place, tg_text *value);

/* ---- The request in hand; false where it has no such value ---- */

tg_text tg_method(void);
tg_text tg_path(void);
bool tg_query_string(tg_text *value);
bool tg_header(tg_text name, tg_text *value);
tg_fields tg_headers(void);
bool tg_query_parameter(tg_text name, tg_text *value);
bool tg_path_parameter(tg_text name, tg_text *value);
bool tg_stage_variable(tg_text name, tg_text *value);
/* A variable of $context, without the prefix: TG("requestId"). */
bool tg_context(tg_text name, tg_text *value);
/* The content. A component that calls it makes the host collect the body first. */
tg_text tg_request_body(void);

/* ---- The response in hand, in a response-transform ---- */

uint16_t tg_response_status(void);
bool tg_response_header(tg_text name, tg_text *value);
tg_fields tg_response_headers(void);
tg_text tg_response_body(void);

/* ---- What a binding must be granted ---- */

enum tg_digest_algorithm { TG_SHA256, TG_SHA384, TG_SHA512 };
/* Grant: crypto. */
tg_text tg_digest(enum tg_digest_algorithm algorithm, tg_text data);
tg_text tg_hmac(enum tg_digest_algorithm algorithm, tg_text key, tg_text data);
/* Compares in a time that depends on the lengths only. */
bool tg_equal_secret(tg_text a, tg_text b);

enum tg_signature_algorithm {
    TG_HS256,
    TG_HS384,
    TG_HS512,
    TG_RS256,
    TG_RS384,
    TG_RS512,
    TG_PS256,
    TG_PS384,
    TG_PS512,
    TG_ES256,
    TG_ES384,
    TG_ED_DSA
};
/* Grant: crypto. Whether the signature is the message's under key, a JSON Web Key; where that is unfit, error says why. */
bool tg_verify(enum tg_signature_algorithm algorithm, tg_text key, tg_text message, tg_text signature, tg_text *error);

/* Grant: jwks. The key set at uri, as JSON; false where there is none, for the reason in error. refresh fetches it again, at
 * most once in 30 seconds: for a token that names an unknown key. */
bool tg_fetch_keys(tg_text uri, bool refresh, tg_text *keys, tg_text *error);
/* The key with this "kid" in a set, as JSON; false where there is none. */
bool tg_find_key(tg_text keys, tg_text id, tg_text *key);

typedef struct {
    tg_text id, name;
} tg_api_key;
/* Grant: api-keys. The enabled key of this value whose usage plan includes this API and stage. */
bool tg_find_api_key(tg_text value, tg_api_key *key);

/* Grant: shared-cache. */
bool tg_cache_get(tg_text key, tg_text *value);
void tg_cache_set(tg_text key, tg_text value, uint32_t ttl_ms);
void tg_cache_delete(tg_text key);

/* Grant: rate-limit. True where there was a token; otherwise retry_ms is the time until there is one. */
bool tg_take_token(tg_text bucket, double rate, uint32_t burst, uint32_t *retry_ms);

enum tg_period { TG_DAY, TG_WEEK, TG_MONTH };
/* What a quota allows: limit in one period; offset is subtracted from it in the period of the first use. */
typedef struct {
    uint32_t limit, offset;
    enum tg_period period;
} tg_terms;
/* How a quota stands: what may still be taken, and the time until the next period begins. */
typedef struct {
    bool admitted; /* otherwise nothing was taken */
    uint32_t left, renews_in_ms;
} tg_taken;
/* Grant: quota. Takes amount, 0 to look only; it counts for all nodes. False where that is not possible, for the reason in
 * error. */
bool tg_take_quota(tg_text quota, uint32_t amount, tg_terms terms, tg_taken *taken, tg_text *error);

/* Grant: secrets. */
bool tg_secret(tg_text name, tg_text *value);

/* Grant: metrics. */
void tg_count(tg_text event, uint32_t amount);

/* Grant: log-output. Writes whole lines to the binding's destination; the host adds the line ends. */
void tg_write_lines(const tg_text *lines, size_t size);

/* Grant: http-client. Status 0: there is no response, and body says why. */
typedef struct {
    uint16_t status;
    tg_fields headers;
    tg_text body;
} tg_response;
tg_response tg_send(tg_text method, tg_text uri, tg_fields headers, tg_text body, uint32_t timeout_ms);

/* ---- The log; needs no grant ---- */

enum tg_level { TG_TRACE, TG_DEBUG, TG_INFO, TG_WARN, TG_ERROR };
void tg_log(enum tg_level level, tg_text message);

/* ---- Changes to a message ---- */

/* Collects changes; they are applied in their order. Start with `tg_edits edits = {0};`. */
typedef struct {
    void *items;
    size_t size, room;
} tg_edits;

void tg_set_header(tg_edits *edits, tg_text name, tg_text value);
void tg_append_header(tg_edits *edits, tg_text name, tg_text value);
void tg_remove_header(tg_edits *edits, tg_text name);
void tg_rename_header(tg_edits *edits, tg_text from, tg_text to);
void tg_set_body(tg_edits *edits, tg_text body);
/* Of requests only. */
void tg_set_query_parameter(tg_edits *edits, tg_text name, tg_text value);
void tg_remove_query_parameter(tg_edits *edits, tg_text name);
void tg_rename_query_parameter(tg_edits *edits, tg_text from, tg_text to);
void tg_set_path(tg_edits *edits, tg_text path);
/* Of responses only. */
void tg_set_status(tg_edits *edits, uint16_t status);

/* ---- What a plugin defines ---- */

/* Takes the binding's configuration, once for each instance. False refuses the deployment, with error for the operator. */
bool tg_configure(tg_configuration configuration, tg_text *error);

/* Each step decides on the request in hand; false means that no decision could be made, for the reason in error. */

typedef struct {
    enum { TG_ALLOW, TG_UNAUTHORIZED, TG_FORBIDDEN } kind;
    tg_text text; /* the principal's id, the challenge or none, the reason or none */
    tg_fields context;
    tg_text usage_identifier_key; /* the API key that usage is counted on, or none */
} tg_verdict;

/* Proceed, as this principal. */
tg_verdict tg_allow(tg_text id);
/* 401, with a WWW-Authenticate challenge unless it is empty. */
tg_verdict tg_unauthorized(tg_text challenge);
/* 403; the reason is for the log. */
tg_verdict tg_forbidden(tg_text reason);
bool tg_authorize(tg_verdict *verdict, tg_text *error);

typedef struct {
    enum { TG_ADMIT, TG_REJECT, TG_EXCEEDED } kind; /* one that is left alone admits */
    uint32_t retry_ms;
} tg_admission;

/* 429; the milliseconds until a retry can succeed. */
tg_admission tg_reject(uint32_t retry_ms);
/* 429, of a quota; the milliseconds until it begins anew. */
tg_admission tg_exceeded(uint32_t renews_in_ms);
bool tg_admit(tg_admission *admission, tg_text *error);

typedef struct {
    enum { TG_VALID, TG_INVALID_PARAMETERS, TG_INVALID_BODY, TG_UNSUPPORTED_MEDIA_TYPE } kind; /* left alone: valid */
    tg_text message; /* for the caller */
} tg_validity;

/* 400, with a message for the caller. */
tg_validity tg_invalid_parameters(tg_text message);
/* 400, with a message for the caller. */
tg_validity tg_invalid_body(tg_text message);
/* 415. */
tg_validity tg_unsupported_media_type(void);
bool tg_validate(tg_validity *validity, tg_text *error);

/* Answers by response where its status is set; otherwise the edits are applied. */
bool tg_transform_request(tg_edits *edits, tg_response *response, tg_text *error);
bool tg_transform_response(tg_edits *edits, tg_text *error);

/* What answers the request: response where its status is set, the function of this name, or the server at uri, whose authority
 * is an upstream of the node or a granted host. */
typedef struct {
    tg_text uri, function;
    tg_response response;
    tg_edits edits;      /* changes to the request, with uri and function */
    tg_text method;      /* with uri; the request's own where it is empty */
    uint32_t timeout_ms; /* until the answer's header section is there; the route's timeout where it is 0 */
} tg_plan;
bool tg_integrate(tg_plan *plan, tg_text *error);

/* Served requests, the oldest first, at most 256. Nothing else is known of them: tg_header and its kind trap here. */
typedef struct {
    const void *items;
    size_t size;
} tg_records;
/* The value that tg_read gave the place of; false where the request had none. */
bool tg_recorded(tg_records records, size_t record, size_t place, tg_text *value);
/* False means that they were not written down: they are counted as lost. */
bool tg_write(tg_records records, tg_text *error);

#ifdef __cplusplus
}
#endif

#endif
