// Admits so many requests of each caller: some a second and, where configured, some a day.

#include "tidegate.h"

static double rate;
static uint32_t burst, limit;
static bool anonymous;
static size_t client;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    rate = tg_number(configuration, "rate", 1);
    burst = (uint32_t)tg_number(configuration, "burst", 1);
    limit = (uint32_t)tg_number(configuration, "limit", 0);
    anonymous = tg_boolean(configuration, "anonymous", false);
    // The host hands the header over with each call, which costs half of what asking for it does.
    client = tg_read(TG_HEADER, tg_string(configuration, "header", TG("x-client")));
    return true;
}

bool tg_admit(tg_admission *admission, tg_text *error) {
    tg_text name = TG("");
    if (!tg_given(client, &name) && !anonymous) {
        *admission = tg_reject(1000); // a name is missing, not time
        return true;
    }
    tg_text key = tg_join(TG("client "), name);
    uint32_t retry_ms;
    if (!tg_take_token(key, rate, burst, &retry_ms)) {
        *admission = tg_reject(retry_ms);
    } else if (limit > 0) {
        tg_taken taken;
        if (!tg_take_quota(key, 1, (tg_terms){.limit = limit, .period = TG_DAY}, &taken, error)) return false;
        if (!taken.admitted) *admission = tg_exceeded(taken.renews_in_ms);
    }
    return true;
}
