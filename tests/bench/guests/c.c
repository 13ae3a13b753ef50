// Counts five headers: the authorizer of the benchmark's case `guest-c`.

#include "tidegate.h"

bool tg_configure(tg_configuration configuration, tg_text *error) {
    (void)configuration;
    (void)error;
    return true;
}

bool tg_authorize(tg_verdict *verdict, tg_text *error) {
    (void)error;
    tg_text value;
    bool found = tg_header(TG("x-one"), &value) && tg_header(TG("x-two"), &value) && tg_header(TG("x-three"), &value) &&
                 tg_header(TG("x-four"), &value) && tg_header(TG("x-five"), &value);
    *verdict = found ? tg_allow(TG("five")) : tg_forbidden(TG("fewer"));
    return true;
}
