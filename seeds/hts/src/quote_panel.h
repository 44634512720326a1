/* What the trader looks at: the quote table, the price chart and (a feature) the order book. */
#ifndef QUOTE_PANEL_H
#define QUOTE_PANEL_H

#include <windows.h>

typedef struct {
    wchar_t code[16];
    wchar_t name[32];
    LONG previous_close;
    LONG price; /* the previous close until the first quote comes */
} HtsStock;

/* Make the controls and fill the table from symbols.txt ("<code> <previous close> <name>", UTF-8). */
void quote_panel_create(HWND parent, HFONT font, int list_id);

/* Place the controls: the table left, chart and order book in the column right of it. */
void quote_panel_layout(RECT table, RECT column);

/* Show a quote; FALSE for a code that is not in the table. tick_size is used by the order book. */
BOOL quote_panel_update(const wchar_t *code, LONG price, LONG volume, LONG tick_size);

/* The stock of the selected row. */
const HtsStock *quote_panel_selected(void);

/* Handle WM_NOTIFY of the table (colours, selection). */
LRESULT quote_panel_notify(LPARAM parameter, BOOL *selection_changed);

#endif
