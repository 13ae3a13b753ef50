/* What the library's own files share. */
#ifndef TIDEGATE_INTERNAL_H
#define TIDEGATE_INTERNAL_H

#include "tidegate.h"

/* Takes over what the host allocated: copied into the call's memory, so that one list owns all. */
tg_text tg_adopt(void *data, size_t size);

/* Ends a call: what it made is gone. */
void tg_free_call(void);

/* Ends tg_configure: what it made stays for ever. */
void tg_keep_call(void);

#endif
