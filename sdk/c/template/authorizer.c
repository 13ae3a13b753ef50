// Lets in who sends a token whose digest is the configuration's.

#include "tidegate.h"

static tg_text header, digest;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    header = tg_string(configuration, "header", TG("x-token"));
    digest = tg_string(configuration, "digest", TG(""));
    return true;
}

bool tg_authorize(tg_verdict *verdict, tg_text *error) {
    (void)error; // there is always a decision
    tg_text token;
    if (!tg_header(header, &token)) {
        *verdict = tg_unauthorized(TG("Token"));
    } else if (tg_equal_secret(tg_hex(tg_digest(TG_SHA256, token)), digest)) {
        *verdict = tg_allow(TG("friend"));
    } else {
        *verdict = tg_forbidden(TG("another token"));
    }
    return true;
}
