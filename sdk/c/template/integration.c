// Sends requests to one of two upstreams, or answers all of them while both are closed.

#include "tidegate.h"

static tg_text upstream, preview, closed;
static uint32_t timeout_ms;
static size_t path, query, previewing;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    upstream = tg_string(configuration, "upstream", TG(""));
    preview = tg_string(configuration, "preview", TG(""));
    closed = tg_string(configuration, "closed", TG(""));
    timeout_ms = (uint32_t)tg_number(configuration, "timeout-ms", 0);
    // The host hands them over with each call, which costs half of what asking for them does.
    path = tg_read(TG_PATH, TG(""));
    query = tg_read(TG_QUERY_STRING, TG(""));
    previewing = tg_read(TG_HEADER, TG("x-preview"));
    return true;
}

bool tg_integrate(tg_plan *plan, tg_text *error) {
    (void)error; // there is always a decision
    if (closed.size > 0) {
        static tg_field fields[] = {{TG("content-type"), TG("text/plain")}};
        plan->response = (tg_response){503, {fields, 1}, closed};
        return true;
    }
    tg_text value, authority = upstream;
    if (preview.size > 0 && tg_given(previewing, &value)) {
        authority = preview;
        tg_remove_header(&plan->edits, TG("x-preview"));
    }
    plan->uri = tg_join(TG("http://"), authority);
    if (tg_given(path, &value)) plan->uri = tg_join(plan->uri, value);
    if (tg_given(query, &value)) plan->uri = tg_join(tg_join(plan->uri, TG("?")), value);
    plan->timeout_ms = timeout_ms;
    return true;
}
