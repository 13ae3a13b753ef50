// Lets in who has an API key of the node, or a token that the identity provider has signed (RFC 7519, ES256).

#include <string.h>

#include "tidegate.h"

static tg_text provider;
static size_t api_key, authorization, now;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    provider = tg_string(configuration, "provider", TG(""));
    api_key = tg_read(TG_HEADER, TG("x-api-key"));
    authorization = tg_read(TG_HEADER, TG("authorization"));
    now = tg_read(TG_CONTEXT, TG("requestTimeEpoch"));
    return true;
}

static tg_verdict by_key(tg_text value) {
    tg_api_key key;
    if (!tg_find_api_key(value, &key)) return tg_forbidden(TG("unknown API key"));
    tg_verdict verdict = tg_allow(key.name);
    verdict.usage_identifier_key = key.id;
    return verdict;
}

// The provider's key of this id, empty where it has none; one that is new may not be in the set that the node keeps.
static bool find_key(tg_text id, tg_text *key, tg_text *error) {
    tg_text keys;
    for (int refresh = 0; refresh < 2; refresh++) {
        if (!tg_fetch_keys(provider, refresh, &keys, error)) return false;
        if (tg_find_key(keys, id, key)) return true;
    }
    *key = TG("");
    return true;
}

// What is before the separator; text is left with what is behind it.
static tg_text cut(tg_text *text, char separator) {
    const char *at = text->size ? memchr(text->data, separator, text->size) : NULL;
    size_t size = at ? (size_t)(at - text->data) : text->size;
    size_t taken = at ? size + 1 : size;
    tg_text part = {text->data, size};
    *text = (tg_text){text->data + taken, text->size - taken};
    return part;
}

static bool expired(tg_text claims) {
    tg_text text = TG("");
    uint64_t milliseconds;
    tg_given(now, &text);
    return !tg_from_decimal(text, &milliseconds) || 1000 * tg_number(claims, "exp", 0) <= (double)milliseconds;
}

bool tg_authorize(tg_verdict *verdict, tg_text *error) {
    tg_text value;
    if (tg_given(api_key, &value)) {
        *verdict = by_key(value);
        return true;
    }
    *verdict = tg_unauthorized(TG("Bearer"));
    if (!tg_given(authorization, &value) || !tg_equal(cut(&value, ' '), TG("Bearer"))) return true;

    const char *start = value.data;
    tg_text header = cut(&value, '.'), claims = cut(&value, '.'), signature, key, unfit;
    if (!value.size) return true;
    tg_text message = {start, header.size + 1 + claims.size};
    if (!tg_from_base64url(header, &header) || !tg_from_base64url(claims, &claims)) return true;
    if (!tg_from_base64url(value, &signature)) return true;

    if (!find_key(tg_string(header, "kid", TG("")), &key, error)) return false;
    if (!key.size || !tg_verify(TG_ES256, key, message, signature, &unfit) || expired(claims)) return true;
    *verdict = tg_allow(tg_string(claims, "sub", TG("")));
    return true;
}
