// Lets in who has a session: asks the service that keeps them, and remembers for a minute what it said.

#include "tidegate.h"

enum { REMEMBERED_MS = 60000, TIMEOUT_MS = 2000 };

static tg_text service;
static size_t session, method;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    service = tg_string(configuration, "service", TG(""));
    session = tg_read(TG_HEADER, TG("x-session"));
    method = tg_read(TG_METHOD, TG(""));
    return true;
}

// Whose session it is, empty where there is none of this token.
static bool ask(tg_text token, tg_text *id, tg_text *error) {
    tg_text secret;
    if (!tg_secret(TG("sessions"), &secret)) {
        *error = TG("the node has no secret `sessions`");
        return false;
    }
    tg_field authorization = {TG("authorization"), tg_join(TG("Bearer "), secret)};
    tg_response answer = tg_send(TG("POST"), service, (tg_fields){&authorization, 1}, token, TIMEOUT_MS);
    switch (answer.status) {
        case 0: *error = answer.body; return false;
        case 200: *id = tg_string(answer.body, "id", TG("")); return true;
        case 404: *id = TG(""); return true;
        default: *error = tg_join(TG("the service answered "), tg_decimal(answer.status)); return false;
    }
}

bool tg_authorize(tg_verdict *verdict, tg_text *error) {
    tg_text token, asked_by, id;
    if (!tg_given(session, &token)) {
        *verdict = tg_unauthorized(TG("Session"));
        return true;
    }
    bool ends = tg_given(method, &asked_by) && tg_equal(asked_by, TG("DELETE"));
    if (ends) tg_cache_delete(token); // after this request there is no such session
    if (tg_cache_get(token, &id)) {
        tg_count(TG("remembered"), 1);
        *verdict = tg_allow(id);
        return true;
    }
    tg_count(TG("asked"), 1);
    if (!ask(token, &id, error)) return false;
    if (id.size) tg_cache_set(token, id, REMEMBERED_MS);
    *verdict = id.size ? tg_allow(id) : tg_forbidden(TG("no such session"));
    return true;
}
