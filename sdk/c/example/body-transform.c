// Gives the request's body in capital letters.

#include <stdlib.h>
#include <string.h>

#include "body_transform.h"

bool exports_tidegate_gateway_plugin_configure(body_transform_string_t *configuration,
                                               exports_tidegate_gateway_plugin_setup_t *setup,
                                               body_transform_string_t *error) {
    (void)error;
    body_transform_string_free(configuration);
    // Nothing to be given, nothing that stands.
    memset(setup, 0, sizeof *setup);
    return true;
}

bool exports_tidegate_gateway_request_transform_transform_request(
    body_transform_list_option_string_t *given, exports_tidegate_gateway_request_transform_outcome_t *outcome,
    body_transform_string_t *error) {
    body_transform_list_option_string_free(given);

    body_transform_list_u8_t body;
    tidegate_gateway_request_body_read(&body);
    for (size_t place = 0; place < body.len; place++) {
        if (body.ptr[place] >= 'a' && body.ptr[place] <= 'z') {
            body.ptr[place] -= 'a' - 'A';
        }
    }

    tidegate_gateway_types_edit_t *edit = malloc(sizeof *edit);
    if (edit == NULL) {
        body_transform_list_u8_free(&body);
        body_transform_string_dup(error, "out of memory");
        return false;
    }
    // What a call returns is freed after it: the body moves into the edit, the edit into the list.
    edit->tag = TIDEGATE_GATEWAY_TYPES_EDIT_SET_BODY;
    edit->val.set_body = body;
    outcome->tag = EXPORTS_TIDEGATE_GATEWAY_REQUEST_TRANSFORM_OUTCOME_EDITS;
    outcome->val.edits.ptr = edit;
    outcome->val.edits.len = 1;
    return true;
}
