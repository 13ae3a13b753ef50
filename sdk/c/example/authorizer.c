// Admits who sends `authorization: let-me-in`.

#include <string.h>

#include "authorizer.h"

bool exports_tidegate_gateway_plugin_configure(authorizer_string_t *configuration,
                                               exports_tidegate_gateway_plugin_setup_t *setup,
                                               authorizer_string_t *error) {
    (void)error;
    authorizer_string_free(configuration);
    // Nothing to be given, nothing that stands.
    memset(setup, 0, sizeof *setup);
    return true;
}

bool exports_tidegate_gateway_authorizer_authorize(authorizer_list_option_string_t *given,
                                                   exports_tidegate_gateway_authorizer_verdict_t *verdict,
                                                   authorizer_string_t *error) {
    static const char expected[] = "let-me-in";
    (void)error;
    authorizer_list_option_string_free(given);

    authorizer_string_t name, word;
    authorizer_string_set(&name, "authorization");
    memset(verdict, 0, sizeof *verdict);
    if (!tidegate_gateway_request_header(&name, &word)) {
        verdict->tag = EXPORTS_TIDEGATE_GATEWAY_AUTHORIZER_VERDICT_UNAUTHORIZED;
        return true;
    }
    if (word.len == sizeof expected - 1 && memcmp(word.ptr, expected, word.len) == 0) {
        verdict->tag = EXPORTS_TIDEGATE_GATEWAY_AUTHORIZER_VERDICT_ALLOW;
        // What a call returns is freed after it, so it is copied to the heap.
        authorizer_string_dup(&verdict->val.allow.id, "friend");
    } else {
        verdict->tag = EXPORTS_TIDEGATE_GATEWAY_AUTHORIZER_VERDICT_FORBIDDEN;
        verdict->val.forbidden.is_some = true;
        authorizer_string_dup(&verdict->val.forbidden.val, "another word");
    }
    authorizer_string_free(&word);
    return true;
}
