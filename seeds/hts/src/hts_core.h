/* Order and price logic, in a DLL of its own that the updater may replace before login. */
#ifndef HTS_CORE_H
#define HTS_CORE_H

#include <windows.h>

typedef struct {
    char code[16];
    LONG price;  /* won */
    LONG volume; /* shares traded today */
} HtsQuote;

typedef struct {
    BOOL buy;
    LONG price;
    LONG quantity;
    LONG previous_close;
} HtsOrder;

typedef enum {
    HTS_ORDER_OK,
    HTS_ORDER_BAD_QUANTITY,
    HTS_ORDER_BAD_TICK,
    HTS_ORDER_OVER_LIMIT,
    HTS_ORDER_UNDER_LIMIT
} HtsOrderCheck;

/* Exported by name; the program asks for them with GetProcAddress. */
typedef const wchar_t *(*HtsCoreVersionFn)(void);
typedef LONG (*HtsTickSizeFn)(LONG price);
typedef BOOL (*HtsParseQuoteFn)(const char *line, HtsQuote *quote);
typedef HtsOrderCheck (*HtsCheckOrderFn)(const HtsOrder *order);

#endif
