/* The library between an author's tg_handle and the generated bindings (plugin.h), for functions. */

#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "plugin.h"
#include "tidegate-function.h"

enum {
    CHUNK = 4096, /* the most that a blocking write takes */
};

static plugin_string_t lend(tg_text text) { return (plugin_string_t){(uint8_t *)text.data, text.size}; }

static tg_text method_of(wasi_http_types_borrow_incoming_request_t request) {
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    wasi_http_types_method_t method;
    wasi_http_types_method_incoming_request_method(request, &method);
    if (method.tag == WASI_HTTP_TYPES_METHOD_OTHER) return tg_adopt(method.val.other.ptr, method.val.other.len);
    return (tg_text){names[method.tag], strlen(names[method.tag])};
}

static tg_fields fields_of(wasi_http_types_borrow_incoming_request_t request) {
    wasi_http_types_own_headers_t headers = wasi_http_types_method_incoming_request_headers(request);
    wasi_http_types_list_tuple2_field_name_field_value_t entries;
    wasi_http_types_method_fields_entries(wasi_http_types_borrow_fields(headers), &entries);
    tg_fields fields = {(tg_field *)tg_allocate(entries.len * sizeof(tg_field)), entries.len};
    for (size_t i = 0; i < entries.len; i++) {
        wasi_http_types_tuple2_field_name_field_value_t *entry = &entries.ptr[i];
        fields.items[i] = (tg_field){tg_adopt(entry->f0.ptr, entry->f0.len), tg_adopt(entry->f1.ptr, entry->f1.len)};
    }
    if (entries.len) free(entries.ptr);
    wasi_http_types_fields_drop_own(headers);
    return fields;
}

static tg_text body_of(wasi_http_types_borrow_incoming_request_t request) {
    tg_text whole = TG("");
    wasi_http_types_own_incoming_body_t body;
    wasi_io_streams_own_input_stream_t stream;
    if (!wasi_http_types_method_incoming_request_consume(request, &body)) return whole;
    if (wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &stream)) {
        char *room = NULL;
        size_t size = 0, capacity = 0;
        for (;;) {
            plugin_list_u8_t read;
            wasi_io_streams_stream_error_t error;
            if (!wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(stream), 16 * CHUNK,
                                                                   &read, &error)) {
                wasi_io_streams_stream_error_free(&error);
                break; /* the end, or the sender left: the host knows which */
            }
            if (size + read.len > capacity) {
                capacity = 2 * (size + read.len);
                room = realloc(room, capacity);
                if (room == NULL) abort();
            }
            if (read.len) memcpy(room + size, read.ptr, read.len);
            size += read.len;
            plugin_list_u8_free(&read);
        }
        wasi_io_streams_input_stream_drop_own(stream);
        whole = tg_adopt(room, size);
    }
    wasi_http_types_future_trailers_drop_own(wasi_http_types_static_incoming_body_finish(body));
    return whole;
}

static wasi_http_types_own_fields_t fields_from(tg_fields fields) {
    wasi_http_types_own_fields_t made = wasi_http_types_constructor_fields();
    for (size_t i = 0; i < fields.size; i++) {
        plugin_string_t name = lend(fields.items[i].name);
        wasi_http_types_field_value_t value = {(uint8_t *)fields.items[i].value.data, fields.items[i].value.size};
        wasi_http_types_header_error_t error;
        /* A field that HTTP has no room for is left out. */
        (void)wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(made), &name, &value, &error);
    }
    return made;
}

static void write_all(wasi_io_streams_own_output_stream_t stream, tg_text content) {
    while (content.size) {
        plugin_list_u8_t part = {(uint8_t *)content.data, content.size < CHUNK ? content.size : CHUNK};
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(stream),
                                                                           &part, &error)) {
            wasi_io_streams_stream_error_free(&error);
            return; /* the viewer left */
        }
        content.data += part.len;
        content.size -= part.len;
    }
}

static void send(wasi_http_types_own_response_outparam_t out, tg_response response) {
    wasi_http_types_own_outgoing_response_t outgoing =
        wasi_http_types_constructor_outgoing_response(fields_from(response.headers));
    wasi_http_types_borrow_outgoing_response_t borrowed = wasi_http_types_borrow_outgoing_response(outgoing);
    wasi_http_types_own_outgoing_body_t body;
    wasi_io_streams_own_output_stream_t stream;
    if (!wasi_http_types_method_outgoing_response_set_status_code(borrowed, response.status) ||
        !wasi_http_types_method_outgoing_response_body(borrowed, &body)) {
        abort(); /* a status that HTTP does not have */
    }
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = outgoing};
    wasi_http_types_static_response_outparam_set(out, &result);
    if (wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream)) {
        write_all(stream, response.body);
        wasi_io_streams_output_stream_drop_own(stream);
    }
    wasi_http_types_error_code_t error;
    (void)wasi_http_types_static_outgoing_body_finish(body, NULL, &error);
}

void exports_wasi_http_incoming_handler_handle(exports_wasi_http_incoming_handler_own_incoming_request_t incoming,
                                               exports_wasi_http_incoming_handler_own_response_outparam_t out) {
    wasi_http_types_borrow_incoming_request_t borrowed = wasi_http_types_borrow_incoming_request(incoming);
    tg_request request = {method_of(borrowed), TG("/"), TG(""), fields_of(borrowed), TG("")};
    plugin_string_t target;
    if (wasi_http_types_method_incoming_request_path_with_query(borrowed, &target)) {
        request.path = tg_adopt(target.ptr, target.len);
        const char *mark = request.path.size ? memchr(request.path.data, '?', request.path.size) : NULL;
        if (mark != NULL) {
            size_t path_size = (size_t)(mark - request.path.data);
            request.query = (tg_text){mark + 1, request.path.size - path_size - 1};
            request.path.size = path_size;
        }
    }
    request.body = body_of(borrowed);
    wasi_http_types_incoming_request_drop_own(incoming);
    send(out, tg_handle(&request));
    tg_free_call();
}

static int digit(char letter) {
    if (letter >= '0' && letter <= '9') return letter - '0';
    letter |= 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static tg_text decode(tg_text text) {
    char *decoded = tg_allocate(text.size);
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        char letter = text.data[i];
        if (letter == '%' && i + 2 < text.size && digit(text.data[i + 1]) >= 0 && digit(text.data[i + 2]) >= 0) {
            letter = (char)(digit(text.data[i + 1]) << 4 | digit(text.data[i + 2]));
            i += 2;
        } else if (letter == '+') {
            letter = ' ';
        }
        decoded[size++] = letter;
    }
    return (tg_text){decoded, size};
}

bool tg_parameter(const tg_request *request, tg_text name, tg_text *value) {
    const char *at = request->query.data, *end = at + request->query.size;
    while (at < end) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        if (stop == NULL) stop = end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        const char *name_end = equals != NULL ? equals : stop;
        if (tg_equal(decode((tg_text){at, (size_t)(name_end - at)}), name)) {
            *value = equals != NULL ? decode((tg_text){equals + 1, (size_t)(stop - equals - 1)}) : TG("");
            return true;
        }
        at = stop + 1;
    }
    return false;
}
