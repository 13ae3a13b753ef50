/* What a function in C is written with: a standard wasi:http component that takes a whole request and gives a whole response.
 *
 * A function defines tg_handle. What it gets and makes lives until it returns, so there is nothing to free. More of WASI
 * (streamed bodies, requests to other servers) is in the generated plugin.h. */
#ifndef TIDEGATE_FUNCTION_H
#define TIDEGATE_FUNCTION_H

#include "tidegate.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    tg_text method;
    tg_text path;     /* percent-encoded, without the query */
    tg_text query;    /* without the `?`; empty where there is none */
    tg_fields headers;
    tg_text body;
} tg_request;

/* The first value of a parameter of the query, percent-decoded; false where there is none. */
bool tg_parameter(const tg_request *request, tg_text name, tg_text *value);

tg_response tg_handle(const tg_request *request);

#ifdef __cplusplus
}
#endif

#endif
