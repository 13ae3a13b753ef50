// A function that greets.

#include "tidegate-function.h"

static tg_response text(uint16_t status, tg_text content) {
    static tg_field fields[] = {{TG("content-type"), TG("text/plain")}};
    return (tg_response){status, {fields, 1}, content};
}

tg_response tg_handle(const tg_request *request) {
    if (!tg_equal(request->path, TG("/greet"))) {
        return text(404, tg_join(tg_join(TG("there is no "), request->path), TG("\n")));
    }
    tg_text name = TG("world");
    tg_parameter(request, TG("name"), &name);
    return text(200, tg_join(tg_join(TG("Hello, "), name), TG("!\n")));
}
