// Writes down the requests that failed.

#include "tidegate.h"

static size_t route, status;
static uint64_t least;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    least = (uint64_t)tg_number(configuration, "least", 400);
    route = tg_read(TG_CONTEXT, TG("routeKey"));
    status = tg_read(TG_CONTEXT, TG("status"));
    return true;
}

bool tg_write(tg_records records, tg_text *error) {
    (void)error; // the host counts the lines that find no room
    tg_text *lines = (tg_text *)tg_allocate(records.size * sizeof(tg_text));
    size_t size = 0;
    for (size_t i = 0; i < records.size; i++) {
        tg_text code, key = TG("-"); // a request that no route took has none
        uint64_t number;
        if (!tg_recorded(records, i, status, &code) || !tg_from_decimal(code, &number) || number < least) continue;
        tg_recorded(records, i, route, &key);
        lines[size++] = tg_join(tg_join(code, TG(" ")), key);
    }
    tg_write_lines(lines, size);
    return true;
}
