/* Memory, texts and the configuration: what does not depend on what a component imports. */

#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- Memory: what a call needs is kept in a list and freed when it ends ---- */

typedef struct block {
    struct block *next;
} block;

static block *blocks;

enum {
    DIGITS_MAX = 20, /* of 2^64 */
    REPLACEMENT = 0xfffd, /* half of a surrogate pair is no character */
};

char *tg_allocate(size_t size) {
    block *made = malloc(sizeof(block) + (size ? size : 1));
    if (made == NULL) abort();
    made->next = blocks;
    blocks = made;
    return (char *)(made + 1);
}

void tg_free_call(void) {
    while (blocks != NULL) {
        block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

tg_text tg_adopt(void *data, size_t size) {
    char *copy = tg_allocate(size);
    if (size) memcpy(copy, data, size);
    if (size) free(data);
    return (tg_text){copy, size};
}

void tg_keep_call(void) { blocks = NULL; }

/* ---- Texts ---- */

bool tg_equal(tg_text a, tg_text b) { return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0); }

tg_text tg_join(tg_text a, tg_text b) {
    char *joined = tg_allocate(a.size + b.size);
    if (a.size) memcpy(joined, a.data, a.size);
    if (b.size) memcpy(joined + a.size, b.data, b.size);
    return (tg_text){joined, a.size + b.size};
}

tg_text tg_hex(tg_text octets) {
    static const char digits[] = "0123456789abcdef";
    char *text = tg_allocate(2 * octets.size);
    for (size_t i = 0; i < octets.size; i++) {
        uint8_t octet = (uint8_t)octets.data[i];
        text[2 * i] = digits[octet >> 4];
        text[2 * i + 1] = digits[octet & 15];
    }
    return (tg_text){text, 2 * octets.size};
}

tg_text tg_decimal(uint64_t number) {
    char *end = tg_allocate(DIGITS_MAX) + DIGITS_MAX, *at = end;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    return (tg_text){at, (size_t)(end - at)};
}

bool tg_from_decimal(tg_text digits, uint64_t *number) {
    uint64_t value = 0;
    for (size_t i = 0; i < digits.size; i++) {
        unsigned digit = (unsigned)(digits.data[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) return false;
        value = 10 * value + digit;
    }
    *number = value;
    return digits.size > 0;
}

static int base64url_digit(char letter) {
    if (letter >= 'A' && letter <= 'Z') return letter - 'A';
    if (letter >= 'a' && letter <= 'z') return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9') return letter - '0' + 52;
    return letter == '-' ? 62 : letter == '_' ? 63 : -1;
}

bool tg_from_base64url(tg_text text, tg_text *octets) {
    if (text.size % 4 == 1) return false;
    char *made = tg_allocate(text.size);
    size_t size = 0;
    uint32_t bits = 0;
    int count = 0;
    for (size_t i = 0; i < text.size; i++) {
        int digit = base64url_digit(text.data[i]);
        if (digit < 0) return false;
        bits = bits << 6 | (uint32_t)digit;
        count += 6;
        if (count >= 8) {
            count -= 8;
            made[size++] = (char)(bits >> count);
        }
    }
    *octets = (tg_text){made, size};
    return true;
}

/* ---- A reader for one JSON object (RFC 8259): it takes what is none for one without the member ---- */

static const char *skip_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

static const char *skip_string(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\') at++;
    }
    return at < end ? at + 1 : end;
}

static const char *skip_value(const char *at, const char *end) {
    int depth = 0;
    for (; at < end; at++) {
        if (*at == '"') {
            at = skip_string(at, end) - 1;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (depth == 0) return at;
            depth--;
        } else if (*at == ',' && depth == 0) {
            return at;
        }
    }
    return end;
}

static void push_utf8(char *text, size_t *size, uint32_t code) {
    if (code < 0x80) {
        text[(*size)++] = (char)code;
    } else if (code < 0x800) {
        text[(*size)++] = (char)(0xc0 | code >> 6);
        text[(*size)++] = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        text[(*size)++] = (char)(0xe0 | code >> 12);
        text[(*size)++] = (char)(0x80 | (code >> 6 & 0x3f));
        text[(*size)++] = (char)(0x80 | (code & 0x3f));
    } else {
        text[(*size)++] = (char)(0xf0 | code >> 18);
        text[(*size)++] = (char)(0x80 | (code >> 12 & 0x3f));
        text[(*size)++] = (char)(0x80 | (code >> 6 & 0x3f));
        text[(*size)++] = (char)(0x80 | (code & 0x3f));
    }
}

static uint32_t hex4(const char *at) {
    char digits[5] = {at[0], at[1], at[2], at[3], 0};
    return (uint32_t)strtoul(digits, NULL, 16);
}

/* The string whose quotes are at `at` and before `end`, its escapes resolved. */
static tg_text unquote(const char *at, const char *end) {
    char *text = tg_allocate((size_t)(end - at));
    size_t size = 0;
    for (at++; at < end - 1; at++) {
        if (*at != '\\') {
            text[size++] = *at;
            continue;
        }
        switch (*++at) {
            case 'b': text[size++] = '\b'; break;
            case 'f': text[size++] = '\f'; break;
            case 'n': text[size++] = '\n'; break;
            case 'r': text[size++] = '\r'; break;
            case 't': text[size++] = '\t'; break;
            case 'u': {
                if (end - at < 5) return (tg_text){text, size}; /* no whole escape */
                uint32_t code = hex4(at + 1);
                at += 4;
                bool high = code >= 0xd800 && code < 0xdc00;
                if (high && end - at > 6 && at[1] == '\\' && at[2] == 'u') {
                    uint32_t low = hex4(at + 3) - 0xdc00;
                    if (low < 0x400) code = 0x10000 + ((code - 0xd800) << 10) + low;
                    at += 6;
                }
                bool alone = code >= 0xd800 && code < 0xe000;
                push_utf8(text, &size, alone ? REPLACEMENT : code);
                break;
            }
            default: text[size++] = *at;
        }
    }
    return (tg_text){text, size};
}

/* Where the member's value is; false where there is none. */
static bool member(tg_text json, const char *name, const char **start, const char **end) {
    const char *at = json.data, *last = json.data + json.size;
    tg_text wanted = {name, strlen(name)};
    at = skip_space(at, last);
    if (at == last || *at != '{') return false;
    for (at++; at < last;) {
        at = skip_space(at, last);
        if (at == last || *at != '"') return false;
        const char *key_end = skip_string(at, last);
        tg_text key = unquote(at, key_end);
        at = skip_space(key_end, last);
        if (at == last || *at != ':') return false;
        *start = skip_space(at + 1, last);
        *end = skip_value(*start, last);
        if (tg_equal(key, wanted)) return *start < *end;
        at = *end;
        if (at < last) at++;
    }
    return false;
}

tg_text tg_string(tg_configuration configuration, const char *name, tg_text fallback) {
    const char *start, *end;
    if (!member(configuration, name, &start, &end) || *start != '"') return fallback;
    return unquote(start, skip_string(start, end));
}

double tg_number(tg_configuration configuration, const char *name, double fallback) {
    const char *start, *end;
    if (!member(configuration, name, &start, &end) || !(*start == '-' || (*start >= '0' && *start <= '9'))) {
        return fallback;
    }
    tg_text number = tg_join((tg_text){start, (size_t)(end - start)}, (tg_text){"", 1});
    return strtod(number.data, NULL);
}

bool tg_boolean(tg_configuration configuration, const char *name, bool fallback) {
    const char *start, *end;
    if (!member(configuration, name, &start, &end) || !(*start == 't' || *start == 'f')) return fallback;
    return *start == 't';
}

bool tg_find_key(tg_text keys, tg_text id, tg_text *key) {
    const char *at, *end;
    if (!member(keys, "keys", &at, &end) || *at != '[') return false;
    for (at = skip_space(at + 1, end); at < end && *at == '{'; at = skip_space(at, end)) {
        const char *stop = skip_value(at, end);
        tg_text entry = {at, (size_t)(stop - at)};
        if (tg_equal(tg_string(entry, "kid", TG("")), id)) {
            *key = entry;
            return true;
        }
        at = skip_space(stop + (stop < end), end);
    }
    return false;
}
