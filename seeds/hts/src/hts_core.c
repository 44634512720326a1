#include "hts_core.h"

#include <stdio.h>

#include "hts_config.h"

#define EXPORT __declspec(dllexport)
#define DAILY_LIMIT_PERCENT 30
#define MAX_QUANTITY 1000000

/* Price steps of Korean stocks. Source: KRX business rules, table in force since 2023-01-25. */
static const struct {
    LONG below, tick;
} TICKS[] = {{2000, 1}, {5000, 5}, {20000, 10}, {50000, 50}, {200000, 100}, {500000, 500}};

EXPORT const wchar_t *HtsCoreVersion(void)
{
    return HTS_CORE_VERSION;
}

EXPORT LONG HtsTickSize(LONG price)
{
    for (size_t i = 0; i < sizeof TICKS / sizeof TICKS[0]; i++)
        if (price < TICKS[i].below)
            return TICKS[i].tick;
    return 1000;
}

/* Read "Q <code> <price> <volume>"; FALSE for anything else. */
EXPORT BOOL HtsParseQuote(const char *line, HtsQuote *quote)
{
    char extra;
    HtsQuote read = {{0}, 0, 0};
    if (sscanf(line, "Q %15s %ld %ld %c", read.code, &read.price, &read.volume, &extra) != 3)
        return FALSE;
    if (read.price <= 0 || read.volume < 0)
        return FALSE;
    *quote = read;
    return TRUE;
}

EXPORT HtsOrderCheck HtsCheckOrder(const HtsOrder *order)
{
    LONG margin = order->previous_close / 100 * DAILY_LIMIT_PERCENT;
    if (order->quantity <= 0 || order->quantity > MAX_QUANTITY)
        return HTS_ORDER_BAD_QUANTITY;
    if (order->price <= 0 || order->price % HtsTickSize(order->price) != 0)
        return HTS_ORDER_BAD_TICK;
    if (order->price > order->previous_close + margin)
        return HTS_ORDER_OVER_LIMIT;
    if (order->price < order->previous_close - margin)
        return HTS_ORDER_UNDER_LIMIT;
    return HTS_ORDER_OK;
}
