// Gives the body in capital letters, after a prefix.

#include "tidegate.h"

static tg_text prefix;

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)error; // the host has checked the configuration against the schema
    prefix = tg_string(configuration, "prefix", TG("> "));
    return true;
}

bool tg_transform_request(tg_edits *edits, tg_response *response, tg_text *error) {
    (void)response; // the integration answers
    (void)error;
    tg_text body = tg_request_body();
    if (body.size == 0) return true;

    char *capitals = tg_allocate(body.size);
    for (size_t i = 0; i < body.size; i++) {
        char letter = body.data[i];
        capitals[i] = letter >= 'a' && letter <= 'z' ? (char)(letter - 'a' + 'A') : letter;
    }
    tg_set_body(edits, tg_join(prefix, (tg_text){capitals, body.size}));
    tg_set_header(edits, TG("x-changed"), TG("yes"));
    return true;
}
