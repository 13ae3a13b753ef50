// Says how long a response may be kept, and not what made it.

#include "tidegate.h"

static tg_text lifetime;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    double seconds = tg_number(configuration, "max-age", 60);
    lifetime = tg_join(TG("max-age="), tg_decimal((uint64_t)seconds));
    return true;
}

bool tg_transform_response(tg_edits *edits, tg_text *error) {
    (void)error; // there is always a decision
    tg_set_header(edits, TG("cache-control"), tg_response_status() < 400 ? lifetime : TG("no-store"));
    tg_remove_header(edits, TG("server"));
    return true;
}
