// Demands a header, and a body of one media type that is not too long.

#include <strings.h>

#include "tidegate.h"

static tg_text header, media_type;
static uint32_t body_bytes_max;
static size_t named, content_type;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    header = tg_string(configuration, "header", TG("idempotency-key"));
    media_type = tg_string(configuration, "media-type", TG("application/json"));
    body_bytes_max = (uint32_t)tg_number(configuration, "body-bytes-max", 1024);
    // The host hands them over with each call, which costs half of what asking for them does.
    named = tg_read(TG_HEADER, header);
    content_type = tg_read(TG_HEADER, TG("content-type"));
    return true;
}

// Whether a content type is of the media type, in whatever letters and with whatever parameters.
static bool is_supported(tg_text type) {
    size_t size = 0;
    while (size < type.size && type.data[size] != ';') size++;
    while (size > 0 && (type.data[size - 1] == ' ' || type.data[size - 1] == '\t')) size--;
    return size == media_type.size && strncasecmp(type.data, media_type.data, size) == 0;
}

bool tg_validate(tg_validity *validity, tg_text *error) {
    (void)error; // there is always a decision
    tg_text name, type = TG("");
    tg_given(content_type, &type);
    if (!tg_given(named, &name)) {
        *validity = tg_invalid_parameters(tg_join(tg_join(TG("the header "), header), TG(" is missing")));
    } else if (!is_supported(type)) {
        *validity = tg_unsupported_media_type();
    } else if (tg_request_body().size > body_bytes_max) {
        tg_text most = tg_decimal(body_bytes_max);
        *validity = tg_invalid_body(tg_join(tg_join(TG("the body is over "), most), TG(" bytes")));
    }
    return true;
}
