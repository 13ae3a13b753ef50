/* The library between an author's functions and the generated bindings (plugin.h), for plugins. */

#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "plugin.h"

/* ---- Between the library's texts and the bindings' ---- */

static tg_text adopt_string(plugin_string_t *string) { return tg_adopt(string->ptr, string->len); }

static plugin_string_t lend(tg_text text) { return (plugin_string_t){(uint8_t *)text.data, text.size}; }

static plugin_list_u8_t lend_list(tg_text text) { return (plugin_list_u8_t){(uint8_t *)text.data, text.size}; }

/* A copy that the bindings free after the call. */
static void *give_octets(const void *data, size_t size) {
    if (size == 0) return NULL;
    void *copy = malloc(size);
    if (copy == NULL) abort();
    memcpy(copy, data, size);
    return copy;
}

static plugin_string_t give(tg_text text) {
    return (plugin_string_t){give_octets(text.data, text.size), text.size};
}

static plugin_option_string_t give_option(tg_text text) {
    return (plugin_option_string_t){text.size > 0, give(text)};
}

static plugin_list_tuple2_string_string_t give_fields(tg_fields fields) {
    plugin_list_tuple2_string_string_t given = {NULL, fields.size};
    if (fields.size == 0) return given;
    given.ptr = malloc(fields.size * sizeof *given.ptr);
    if (given.ptr == NULL) abort();
    for (size_t i = 0; i < fields.size; i++) {
        given.ptr[i] = (plugin_tuple2_string_string_t){give(fields.items[i].name), give(fields.items[i].value)};
    }
    return given;
}

static tg_fields adopt_fields(plugin_list_tuple2_string_string_t *list) {
    tg_fields fields = {(tg_field *)tg_allocate(list->len * sizeof(tg_field)), list->len};
    for (size_t i = 0; i < list->len; i++) {
        fields.items[i] = (tg_field){adopt_string(&list->ptr[i].f0), adopt_string(&list->ptr[i].f1)};
    }
    if (list->len) free(list->ptr);
    return fields;
}

/* ---- What the host offers ---- */

#define READ(interface, function)                                             \
    {                                                                         \
        plugin_string_t read;                                                 \
        tidegate_gateway_##interface##_##function(&read);                     \
        return adopt_string(&read);                                           \
    }

#define LOOK_UP(interface, function)                                          \
    {                                                                         \
        plugin_string_t asked = lend(name), found;                            \
        if (!tidegate_gateway_##interface##_##function(&asked, &found)) return false; \
        *value = adopt_string(&found);                                        \
        return true;                                                          \
    }

#define FIELDS(interface)                                                     \
    {                                                                         \
        plugin_list_tuple2_string_string_t list;                              \
        tidegate_gateway_##interface##_headers(&list);                        \
        return adopt_fields(&list);                                           \
    }

#define BODY(interface)                                                       \
    {                                                                         \
        plugin_list_u8_t octets;                                              \
        tidegate_gateway_##interface##_read(&octets);                         \
        return tg_adopt(octets.ptr, octets.len);                                 \
    }

void tg_log(enum tg_level level, tg_text message) {
    plugin_string_t line = lend(message);
    tidegate_gateway_log_write((tidegate_gateway_log_level_t)level, &line);
}

tg_text tg_method(void) READ(request, method)
tg_text tg_path(void) READ(request, path)
bool tg_query_string(tg_text *value) {
    plugin_string_t found;
    if (!tidegate_gateway_request_query_string(&found)) return false;
    *value = adopt_string(&found);
    return true;
}
bool tg_header(tg_text name, tg_text *value) LOOK_UP(request, header)
tg_fields tg_headers(void) FIELDS(request)
bool tg_query_parameter(tg_text name, tg_text *value) LOOK_UP(request, query_parameter)
bool tg_path_parameter(tg_text name, tg_text *value) LOOK_UP(request, path_parameter)
bool tg_stage_variable(tg_text name, tg_text *value) LOOK_UP(request, stage_variable)
bool tg_context(tg_text name, tg_text *value) LOOK_UP(request, context)

tg_text tg_request_body(void) BODY(request_body)
tg_text tg_response_body(void) BODY(response_body)

uint16_t tg_response_status(void) { return tidegate_gateway_response_status(); }
bool tg_response_header(tg_text name, tg_text *value) LOOK_UP(response, header)
tg_fields tg_response_headers(void) FIELDS(response)

tg_text tg_digest(enum tg_digest_algorithm algorithm, tg_text data) {
    plugin_list_u8_t input = lend_list(data), output;
    tidegate_gateway_crypto_digest((uint8_t)algorithm, &input, &output);
    return tg_adopt(output.ptr, output.len);
}

tg_text tg_hmac(enum tg_digest_algorithm algorithm, tg_text key, tg_text data) {
    plugin_list_u8_t secret = lend_list(key), input = lend_list(data), output;
    tidegate_gateway_crypto_hmac((uint8_t)algorithm, &secret, &input, &output);
    return tg_adopt(output.ptr, output.len);
}

bool tg_equal_secret(tg_text a, tg_text b) {
    plugin_list_u8_t first = lend_list(a), second = lend_list(b);
    return tidegate_gateway_crypto_equal(&first, &second);
}

bool tg_verify(enum tg_signature_algorithm algorithm, tg_text key, tg_text message, tg_text signature, tg_text *error) {
    plugin_string_t its_key = lend(key), reason;
    plugin_list_u8_t signed_octets = lend_list(message), its_signature = lend_list(signature);
    bool valid = false;
    if (!tidegate_gateway_crypto_verify((uint8_t)algorithm, &its_key, &signed_octets, &its_signature, &valid, &reason)) {
        *error = adopt_string(&reason);
        return false;
    }
    return valid;
}

bool tg_fetch_keys(tg_text uri, bool refresh, tg_text *keys, tg_text *error) {
    plugin_string_t asked = lend(uri), found, reason;
    if (!tidegate_gateway_jwks_fetch(&asked, refresh, &found, &reason)) {
        *error = adopt_string(&reason);
        return false;
    }
    *keys = adopt_string(&found);
    return true;
}

bool tg_find_api_key(tg_text value, tg_api_key *key) {
    plugin_string_t asked = lend(value);
    tidegate_gateway_api_keys_api_key_t found;
    if (!tidegate_gateway_api_keys_find(&asked, &found)) return false;
    *key = (tg_api_key){adopt_string(&found.id), adopt_string(&found.name)};
    return true;
}

bool tg_cache_get(tg_text key, tg_text *value) {
    plugin_string_t asked = lend(key);
    plugin_list_u8_t found;
    if (!tidegate_gateway_shared_cache_get(&asked, &found)) return false;
    *value = tg_adopt(found.ptr, found.len);
    return true;
}

void tg_cache_set(tg_text key, tg_text value, uint32_t ttl_ms) {
    plugin_string_t name = lend(key);
    plugin_list_u8_t octets = lend_list(value);
    tidegate_gateway_shared_cache_set(&name, &octets, ttl_ms);
}

void tg_cache_delete(tg_text key) {
    plugin_string_t name = lend(key);
    tidegate_gateway_shared_cache_delete(&name);
}

bool tg_take_token(tg_text bucket, double rate, uint32_t burst, uint32_t *retry_ms) {
    plugin_string_t key = lend(bucket);
    tidegate_gateway_rate_limit_taken_t taken;
    tidegate_gateway_rate_limit_take(&key, rate, burst, &taken);
    if (taken.tag == TIDEGATE_GATEWAY_RATE_LIMIT_TAKEN_ADMITTED) return true;
    *retry_ms = taken.val.rejected;
    return false;
}

bool tg_take_quota(tg_text quota, uint32_t amount, tg_terms terms, tg_taken *taken, tg_text *error) {
    plugin_string_t key = lend(quota), reason;
    tidegate_gateway_quota_terms_t its_terms = {terms.limit, terms.offset, (uint8_t)terms.period};
    tidegate_gateway_quota_taken_t outcome;
    if (!tidegate_gateway_quota_take(&key, amount, &its_terms, &outcome, &reason)) {
        *error = adopt_string(&reason);
        return false;
    }
    bool admitted = outcome.tag == TIDEGATE_GATEWAY_QUOTA_TAKEN_ADMITTED;
    tidegate_gateway_quota_standing_t standing = outcome.val.admitted; /* exceeded has the same place and type */
    *taken = (tg_taken){admitted, standing.left, standing.renews_in_ms};
    return true;
}

bool tg_secret(tg_text name, tg_text *value) LOOK_UP(secrets, get)

void tg_count(tg_text event, uint32_t amount) {
    plugin_string_t name = lend(event);
    tidegate_gateway_metrics_count(&name, amount);
}

void tg_write_lines(const tg_text *lines, size_t size) {
    plugin_list_string_t list = {(plugin_string_t *)tg_allocate(size * sizeof(plugin_string_t)), size};
    for (size_t i = 0; i < size; i++) list.ptr[i] = lend(lines[i]);
    tidegate_gateway_log_output_write(&list);
}

tg_response tg_send(tg_text method, tg_text uri, tg_fields headers, tg_text body, uint32_t timeout_ms) {
    plugin_list_tuple2_string_string_t fields = {
        (plugin_tuple2_string_string_t *)tg_allocate(headers.size * sizeof(plugin_tuple2_string_string_t)),
        headers.size};
    for (size_t i = 0; i < headers.size; i++) {
        fields.ptr[i] = (plugin_tuple2_string_string_t){lend(headers.items[i].name), lend(headers.items[i].value)};
    }
    tidegate_gateway_http_client_outgoing_request_t request = {lend(method), lend(uri), fields, lend_list(body), timeout_ms};
    tidegate_gateway_http_client_response_t response;
    tidegate_gateway_http_client_http_error_t error;
    if (tidegate_gateway_http_client_send(&request, &response, &error)) {
        return (tg_response){response.status, adopt_fields(&response.headers), tg_adopt(response.body.ptr, response.body.len)};
    }
    switch (error.tag) {
        case TIDEGATE_GATEWAY_HTTP_CLIENT_HTTP_ERROR_DESTINATION_NOT_ALLOWED:
            return (tg_response){.body = TG("the host is not granted")};
        case TIDEGATE_GATEWAY_HTTP_CLIENT_HTTP_ERROR_TIMEOUT: return (tg_response){.body = TG("no answer in time")};
        case TIDEGATE_GATEWAY_HTTP_CLIENT_HTTP_ERROR_RESPONSE_TOO_LARGE:
            return (tg_response){.body = TG("the response is over 1 MiB")};
        default: return (tg_response){.body = adopt_string(&error.val.protocol_error)};
    }
}

/* ---- Changes ---- */

static tidegate_gateway_types_edit_t *add(tg_edits *edits, uint8_t tag) {
    if (edits->size == edits->room) {
        edits->room = edits->room ? 2 * edits->room : 8;
        edits->items = realloc(edits->items, edits->room * sizeof(tidegate_gateway_types_edit_t));
        if (edits->items == NULL) abort();
    }
    tidegate_gateway_types_edit_t *edit = (tidegate_gateway_types_edit_t *)edits->items + edits->size++;
    edit->tag = tag;
    return edit;
}

#define PAIR(name, tag, member)                                               \
    void name(tg_edits *edits, tg_text first, tg_text second) {               \
        add(edits, tag)->val.member = (plugin_tuple2_string_string_t){give(first), give(second)}; \
    }
#define ONE(name, tag, member)                                                \
    void name(tg_edits *edits, tg_text text) { add(edits, tag)->val.member = give(text); }

PAIR(tg_set_header, TIDEGATE_GATEWAY_TYPES_EDIT_SET_HEADER, set_header)
PAIR(tg_append_header, TIDEGATE_GATEWAY_TYPES_EDIT_APPEND_HEADER, append_header)
ONE(tg_remove_header, TIDEGATE_GATEWAY_TYPES_EDIT_REMOVE_HEADER, remove_header)
PAIR(tg_rename_header, TIDEGATE_GATEWAY_TYPES_EDIT_RENAME_HEADER, rename_header)
PAIR(tg_set_query_parameter, TIDEGATE_GATEWAY_TYPES_EDIT_SET_QUERY_PARAMETER, set_query_parameter)
ONE(tg_remove_query_parameter, TIDEGATE_GATEWAY_TYPES_EDIT_REMOVE_QUERY_PARAMETER, remove_query_parameter)
PAIR(tg_rename_query_parameter, TIDEGATE_GATEWAY_TYPES_EDIT_RENAME_QUERY_PARAMETER, rename_query_parameter)
ONE(tg_set_path, TIDEGATE_GATEWAY_TYPES_EDIT_SET_PATH, set_path)

void tg_set_body(tg_edits *edits, tg_text body) {
    add(edits, TIDEGATE_GATEWAY_TYPES_EDIT_SET_BODY)->val.set_body =
        (plugin_list_u8_t){give_octets(body.data, body.size), body.size};
}

void tg_set_status(tg_edits *edits, uint16_t status) {
    add(edits, TIDEGATE_GATEWAY_TYPES_EDIT_SET_STATUS)->val.set_status = status;
}

/* ---- Values that the host hands over ---- */

enum { READS_MAX = 64 };

static struct {
    exports_tidegate_gateway_plugin_reading_t items[READS_MAX];
    size_t size;
} reads;

/* Of the call in hand. The bindings name their list otherwise in a world that has a log sink alone. */
static struct {
    plugin_option_string_t *items;
    size_t size;
} given_values;

#define TAKE(given) given_values.items = (given)->ptr, given_values.size = (given)->len

static void free_given(void) {
    for (size_t i = 0; i < given_values.size; i++) plugin_option_string_free(&given_values.items[i]);
    if (given_values.size) free(given_values.items);
    given_values.size = 0;
}

size_t tg_read(enum tg_reading reading, tg_text name) {
    if (reads.size == READS_MAX) abort();
    exports_tidegate_gateway_plugin_reading_t *made = &reads.items[reads.size];
    made->tag = (uint8_t)reading;
    made->val.header = lend(name); /* the others have the same place and type */
    return reads.size++;
}

static bool value_at(const plugin_option_string_t *values, size_t size, size_t place, tg_text *value) {
    if (place >= size || !values[place].is_some) return false;
    *value = (tg_text){(const char *)values[place].val.ptr, values[place].val.len};
    return true;
}

bool tg_given(size_t place, tg_text *value) { return value_at(given_values.items, given_values.size, place, value); }

/* ---- The exports ---- */

bool exports_tidegate_gateway_plugin_configure(plugin_string_t *configuration,
                                               exports_tidegate_gateway_plugin_setup_t *setup, plugin_string_t *error) {
    tg_text reason = TG("");
    memset(setup, 0, sizeof *setup);
    if (!tg_configure(adopt_string(configuration), &reason)) {
        *error = give(reason);
        return false;
    }
    setup->reads.ptr = give_octets(reads.items, reads.size * sizeof *reads.items);
    setup->reads.len = reads.size;
    for (size_t i = 0; i < reads.size; i++) {
        plugin_string_t *name = &setup->reads.ptr[i].val.header;
        name->ptr = give_octets(name->ptr, name->len);
    }
    tg_keep_call();
    return true;
}

/* Ends a call: what it was given and made is gone, but for what it gave. */
static bool finish(bool decided, tg_text reason, plugin_string_t *error) {
    if (!decided) *error = give(reason);
    free_given();
    tg_free_call();
    return decided;
}

static tidegate_gateway_types_response_t give_response(tg_response response) {
    return (tidegate_gateway_types_response_t){
        response.status, give_fields(response.headers),
        {give_octets(response.body.data, response.body.size), response.body.size}};
}

#ifdef TG_AUTHORIZER
tg_verdict tg_allow(tg_text id) { return (tg_verdict){.kind = TG_ALLOW, .text = id}; }
tg_verdict tg_unauthorized(tg_text challenge) { return (tg_verdict){.kind = TG_UNAUTHORIZED, .text = challenge}; }
tg_verdict tg_forbidden(tg_text reason) { return (tg_verdict){.kind = TG_FORBIDDEN, .text = reason}; }

bool exports_tidegate_gateway_authorizer_authorize(plugin_list_option_string_t *given,
                                                   exports_tidegate_gateway_authorizer_verdict_t *verdict,
                                                   plugin_string_t *error) {
    tg_verdict decision = {.kind = TG_FORBIDDEN};
    tg_text reason = TG("");
    TAKE(given);
    bool decided = tg_authorize(&decision, &reason);
    memset(verdict, 0, sizeof *verdict);
    verdict->tag = (uint8_t)decision.kind;
    if (decided && decision.kind == TG_ALLOW) {
        verdict->val.allow.id = give(decision.text);
        verdict->val.allow.context = give_fields(decision.context);
        verdict->val.allow.usage_identifier_key = give_option(decision.usage_identifier_key);
    } else if (decided) {
        verdict->val.unauthorized = give_option(decision.text); /* forbidden has the same place and type */
    }
    return finish(decided, reason, error);
}
#endif

#ifdef TG_THROTTLE
tg_admission tg_reject(uint32_t retry_ms) { return (tg_admission){TG_REJECT, retry_ms}; }
tg_admission tg_exceeded(uint32_t renews_in_ms) { return (tg_admission){TG_EXCEEDED, renews_in_ms}; }

bool exports_tidegate_gateway_throttle_admit(plugin_list_option_string_t *given,
                                             exports_tidegate_gateway_throttle_admission_t *admission,
                                             plugin_string_t *error) {
    tg_text reason = TG("");
    tg_admission decision = {TG_ADMIT, 0};
    TAKE(given);
    bool decided = tg_admit(&decision, &reason);
    admission->tag = (uint8_t)decision.kind;
    admission->val.reject = decision.retry_ms; /* exceeded has the same place and type */
    return finish(decided, reason, error);
}
#endif

#ifdef TG_VALIDATOR
tg_validity tg_invalid_parameters(tg_text message) { return (tg_validity){TG_INVALID_PARAMETERS, message}; }
tg_validity tg_invalid_body(tg_text message) { return (tg_validity){TG_INVALID_BODY, message}; }
tg_validity tg_unsupported_media_type(void) { return (tg_validity){TG_UNSUPPORTED_MEDIA_TYPE, {NULL, 0}}; }

bool exports_tidegate_gateway_validator_validate(plugin_list_option_string_t *given,
                                                 exports_tidegate_gateway_validator_validity_t *validity,
                                                 plugin_string_t *error) {
    tg_text reason = TG("");
    tg_validity decision = {TG_VALID, {NULL, 0}};
    TAKE(given);
    bool decided = tg_validate(&decision, &reason);
    validity->tag = (uint8_t)decision.kind;
    if (decided && (decision.kind == TG_INVALID_PARAMETERS || decision.kind == TG_INVALID_BODY)) {
        validity->val.invalid_body = give(decision.message); /* invalid_parameters has the same place and type */
    }
    return finish(decided, reason, error);
}
#endif

#ifdef TG_REQUEST_TRANSFORM
bool exports_tidegate_gateway_request_transform_transform_request(
    plugin_list_option_string_t *given, exports_tidegate_gateway_request_transform_outcome_t *outcome,
    plugin_string_t *error) {
    tg_text reason = TG("");
    tg_edits edits = {0};
    tg_response response = {0};
    TAKE(given);
    bool decided = tg_transform_request(&edits, &response, &reason);
    if (decided && response.status) {
        outcome->tag = EXPORTS_TIDEGATE_GATEWAY_REQUEST_TRANSFORM_OUTCOME_RESPOND;
        outcome->val.respond = give_response(response);
    } else {
        outcome->tag = EXPORTS_TIDEGATE_GATEWAY_REQUEST_TRANSFORM_OUTCOME_EDITS;
        outcome->val.edits.ptr = edits.items;
        outcome->val.edits.len = edits.size;
    }
    return finish(decided, reason, error);
}
#endif

#ifdef TG_RESPONSE_TRANSFORM
bool exports_tidegate_gateway_response_transform_transform_response(
    plugin_list_option_string_t *given, exports_tidegate_gateway_response_transform_list_edit_t *list,
    plugin_string_t *error) {
    tg_text reason = TG("");
    tg_edits edits = {0};
    TAKE(given);
    bool decided = tg_transform_response(&edits, &reason);
    list->ptr = edits.items;
    list->len = edits.size;
    return finish(decided, reason, error);
}
#endif

#ifdef TG_INTEGRATION
bool exports_tidegate_gateway_integration_integrate(plugin_list_option_string_t *given,
                                                    exports_tidegate_gateway_integration_plan_t *plan,
                                                    plugin_string_t *error) {
    tg_text reason = TG("");
    tg_plan decision = {0};
    TAKE(given);
    bool decided = tg_integrate(&decision, &reason);
    memset(plan, 0, sizeof *plan);
    tidegate_gateway_types_list_edit_t edits = {decision.edits.items, decision.edits.size};
    plugin_option_u32_t timeout_ms = {decision.timeout_ms > 0, decision.timeout_ms};
    if (decided && decision.response.status) {
        plan->tag = TIDEGATE_GATEWAY_TYPES_PLAN_RESPOND;
        plan->val.respond = give_response(decision.response);
    } else if (decided && decision.function.size) {
        plan->tag = TIDEGATE_GATEWAY_TYPES_PLAN_INVOKE;
        plan->val.invoke.function = give(decision.function);
        plan->val.invoke.edits = edits;
        plan->val.invoke.timeout_ms = timeout_ms;
    } else if (decided) {
        plan->tag = TIDEGATE_GATEWAY_TYPES_PLAN_FORWARD;
        plan->val.forward.uri = give(decision.uri);
        plan->val.forward.method = give_option(decision.method);
        plan->val.forward.edits = edits;
        plan->val.forward.timeout_ms = timeout_ms;
    }
    return finish(decided, reason, error);
}
#endif

#ifdef TG_LOG_SINK
bool tg_recorded(tg_records records, size_t record, size_t place, tg_text *value) {
    if (record >= records.size) return false;
    const exports_tidegate_gateway_log_sink_log_record_t *its =
        (const exports_tidegate_gateway_log_sink_log_record_t *)records.items + record;
    return value_at(its->ptr, its->len, place, value);
}

bool exports_tidegate_gateway_log_sink_write(exports_tidegate_gateway_log_sink_list_log_record_t *records,
                                             plugin_string_t *error) {
    tg_text reason = TG("");
    bool written = finish(tg_write((tg_records){records->ptr, records->len}, &reason), reason, error);
    exports_tidegate_gateway_log_sink_list_log_record_free(records);
    return written;
}
#endif
