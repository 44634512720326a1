#include "quote_panel.h"

#include <commctrl.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "hts_config.h"
#include "hts_log.h"

#define MAX_STOCKS 32
#define HISTORY 90
#define ROW_HEIGHT 24
#define BOOK_HEIGHT 176
#define BOOK_DEPTH 4

/* Korean custom: up is red, down is blue. */
#define COLOUR_UP RGB(205, 32, 44)
#define COLOUR_DOWN RGB(20, 80, 190)
#define COLOUR_FLAT RGB(40, 40, 40)

enum { COLUMN_CODE, COLUMN_NAME, COLUMN_PRICE, COLUMN_CHANGE, COLUMN_PERCENT, COLUMN_VOLUME, COLUMNS };

static struct {
    HtsStock stock;
    LONG volume, tick_size;
    LONG history[HISTORY];
    int history_size;
} rows[MAX_STOCKS];
static int row_count, selected;
static HWND table, chart;
static HFONT panel_font;
#ifdef HTS_FEATURE_ORDER_BOOK
static HWND book;
#endif

static void with_commas(LONG value, wchar_t text[32])
{
    wchar_t digits[16];
    int length = swprintf(digits, 16, L"%ld", value < 0 ? -value : value), used = 0;
    if (value < 0)
        text[used++] = L'-';
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text[used++] = L',';
        text[used++] = digits[i];
    }
    text[used] = L'\0';
}

static COLORREF colour_of(int row)
{
    LONG change = rows[row].stock.price - rows[row].stock.previous_close;
    return change > 0 ? COLOUR_UP : change < 0 ? COLOUR_DOWN : COLOUR_FLAT;
}

static void set_cell(int row, int column, wchar_t *text)
{
    LVITEMW item = {0};
    item.iSubItem = column;
    item.pszText = text;
    SendMessageW(table, LVM_SETITEMTEXTW, (WPARAM)row, (LPARAM)&item);
}

static void show_row(int row)
{
    wchar_t number[32], text[48];
    const HtsStock *stock = &rows[row].stock;
    LONG change = stock->price - stock->previous_close;
    double percent = 100.0 * change / stock->previous_close;

    with_commas(stock->price, number);
    set_cell(row, COLUMN_PRICE, number);
    with_commas(change < 0 ? -change : change, number);
    swprintf(text, 48, L"%ls %ls", change > 0 ? L"▲" : change < 0 ? L"▼" : L"-", number);
    set_cell(row, COLUMN_CHANGE, text);
    swprintf(text, 48, L"%+.2f%%", percent);
    set_cell(row, COLUMN_PERCENT, text);
    with_commas(rows[row].volume, number);
    set_cell(row, COLUMN_VOLUME, number);
}

static void add_stock(const wchar_t *code, LONG previous_close, const wchar_t *name)
{
    int row = row_count++;
    LVITEMW item = {0};
    wcsncpy(rows[row].stock.code, code, 15);
    wcsncpy(rows[row].stock.name, name, 31);
    rows[row].stock.previous_close = rows[row].stock.price = previous_close;
    item.mask = LVIF_TEXT;
    item.iItem = row;
    item.pszText = rows[row].stock.code;
    SendMessageW(table, LVM_INSERTITEMW, 0, (LPARAM)&item);
    set_cell(row, COLUMN_NAME, rows[row].stock.name);
    show_row(row);
}

static void read_stocks(void)
{
    wchar_t path[MAX_PATH], code[16], name[32], wide[160];
    char line[160];
    long close;
    hts_path(path, L"symbols.txt");
    FILE *file = _wfopen(path, L"r");
    if (file == NULL)
        return;
    while (row_count < MAX_STOCKS && fgets(line, sizeof line, file) != NULL) {
        MultiByteToWideChar(CP_UTF8, 0, line, -1, wide, 160);
        if (swscanf(wide, L"%15ls %ld %31ls", code, &close, name) == 3 && close > 0)
            add_stock(code, close, name);
    }
    fclose(file);
}

/* Paint into memory first: a chart that is redrawn twice a second would flicker. */
static void paint(HWND window, void (*draw)(HDC, const RECT *))
{
    PAINTSTRUCT state;
    RECT area;
    HDC screen = BeginPaint(window, &state);
    GetClientRect(window, &area);
    HDC memory = CreateCompatibleDC(screen);
    HBITMAP bitmap = CreateCompatibleBitmap(screen, area.right, area.bottom);
    HGDIOBJ old_bitmap = SelectObject(memory, bitmap), old_font = SelectObject(memory, panel_font);
    SetBkMode(memory, TRANSPARENT);
    draw(memory, &area);
    BitBlt(screen, 0, 0, area.right, area.bottom, memory, 0, 0, SRCCOPY);
    SelectObject(memory, old_font);
    SelectObject(memory, old_bitmap);
    DeleteObject(bitmap);
    DeleteDC(memory);
    EndPaint(window, &state);
}

static void fill(HDC dc, const RECT *area, COLORREF colour)
{
    HBRUSH brush = CreateSolidBrush(colour);
    FillRect(dc, area, brush);
    DeleteObject(brush);
}

static void write_text(HDC dc, int left, int top, int right, UINT align, COLORREF colour, const wchar_t *text)
{
    RECT box = {left, top, right, top + 20};
    SetTextColor(dc, colour);
    DrawTextW(dc, text, -1, &box, align | DT_SINGLELINE | DT_VCENTER | DT_NOPREFIX);
}

static void draw_chart(HDC dc, const RECT *area)
{
    wchar_t text[96], number[32];
    fill(dc, area, RGB(24, 28, 38));
    if (row_count == 0)
        return;
    const HtsStock *stock = &rows[selected].stock;
    with_commas(stock->price, number);
    swprintf(text, 96, L"%ls  %ls", stock->name, stock->code);
    write_text(dc, 10, 6, area->right - 90, DT_LEFT, RGB(225, 228, 235), text);
    COLORREF bright = stock->price >= stock->previous_close ? RGB(255, 92, 92) : RGB(96, 156, 255);
    write_text(dc, area->right - 90, 6, area->right - 10, DT_RIGHT, bright, number);

    int left = 10, right = area->right - 10, top = 36, bottom = area->bottom - 12;
    int count = rows[selected].history_size;
    if (count < 2) {
        write_text(dc, left, (top + bottom) / 2 - 10, right, DT_CENTER, RGB(130, 138, 155), L"로그인하면 시세가 표시됩니다");
        return;
    }
    HPEN grid = CreatePen(PS_SOLID, 1, RGB(48, 54, 68));
    HGDIOBJ old = SelectObject(dc, grid);
    for (int i = 0; i <= 4; i++) {
        int y = top + (bottom - top) * i / 4;
        MoveToEx(dc, left, y, NULL);
        LineTo(dc, right, y);
    }
    SelectObject(dc, old);
    DeleteObject(grid);

    const LONG *history = rows[selected].history;
    LONG low = history[0], high = history[0];
    for (int i = 1; i < count; i++) {
        low = history[i] < low ? history[i] : low;
        high = history[i] > high ? history[i] : high;
    }
    LONG span = high > low ? high - low : 1;
    HPEN line = CreatePen(PS_SOLID, 2, bright);
    old = SelectObject(dc, line);
    for (int i = 0; i < count; i++) {
        int x = left + (right - left) * i / (HISTORY - 1);
        int y = bottom - (int)((long long)(bottom - top) * (history[i] - low) / span);
        if (i == 0)
            MoveToEx(dc, x, y, NULL);
        else
            LineTo(dc, x, y);
    }
    SelectObject(dc, old);
    DeleteObject(line);
}

#ifdef HTS_FEATURE_ORDER_BOOK
/* The stand-in server sends no depth: quantities are derived from the price, so that they look alive. */
static LONG book_quantity(LONG price, int level)
{
    return 120 + (price / 10 * 37 + rows[selected].volume * (level + 3)) % 4200;
}

static void draw_book(HDC dc, const RECT *area)
{
    wchar_t number[32];
    int height = (area->bottom - 24) / (2 * BOOK_DEPTH), middle = area->right / 2;
    fill(dc, area, RGB(255, 255, 255));
    write_text(dc, 0, 2, area->right, DT_CENTER, COLOUR_FLAT, L"호가");
    LONG tick = rows[selected].tick_size;
    if (tick == 0) /* no quote yet */
        return;
    for (int i = 0; i < 2 * BOOK_DEPTH; i++) {
        BOOL selling = i < BOOK_DEPTH;
        LONG price = rows[selected].stock.price + tick * (selling ? BOOK_DEPTH - i : BOOK_DEPTH - 1 - i);
        int top = 24 + height * i;
        RECT band = {0, top, area->right, top + height - 1};
        fill(dc, &band, selling ? RGB(232, 240, 252) : RGB(253, 234, 234));
        with_commas(price, number);
        write_text(dc, middle - 45, top - 1, middle + 45, DT_CENTER,
                   price >= rows[selected].stock.previous_close ? COLOUR_UP : COLOUR_DOWN, number);
        with_commas(book_quantity(price, i), number);
        if (selling)
            write_text(dc, 8, top - 1, middle - 50, DT_RIGHT, COLOUR_FLAT, number);
        else
            write_text(dc, middle + 50, top - 1, area->right - 8, DT_LEFT, COLOUR_FLAT, number);
    }
}

static LRESULT CALLBACK book_proc(HWND window, UINT message, WPARAM wparam, LPARAM lparam)
{
    if (message != WM_PAINT)
        return DefWindowProcW(window, message, wparam, lparam);
    paint(window, draw_book);
    return 0;
}
#endif

static LRESULT CALLBACK chart_proc(HWND window, UINT message, WPARAM wparam, LPARAM lparam)
{
    if (message != WM_PAINT)
        return DefWindowProcW(window, message, wparam, lparam);
    paint(window, draw_chart);
    return 0;
}

static HWND create_painted(HWND parent, const wchar_t *class_name, WNDPROC procedure)
{
    WNDCLASSW class = {0};
    class.lpfnWndProc = procedure;
    class.hInstance = GetModuleHandleW(NULL);
    class.hCursor = LoadCursorW(NULL, (LPCWSTR)IDC_ARROW);
    class.lpszClassName = class_name;
    RegisterClassW(&class);
    return CreateWindowExW(WS_EX_CLIENTEDGE, class_name, L"", WS_CHILD | WS_VISIBLE, 0, 0, 0, 0, parent, NULL,
                           class.hInstance, NULL);
}

static void repaint_selected(void)
{
    InvalidateRect(chart, NULL, FALSE);
#ifdef HTS_FEATURE_ORDER_BOOK
    InvalidateRect(book, NULL, FALSE);
#endif
}

void quote_panel_create(HWND parent, HFONT font, int list_id)
{
    static const struct {
        wchar_t *title;
        int width, format;
    } columns[COLUMNS] = {{L"종목코드", 76, LVCFMT_LEFT}, {L"종목명", 124, LVCFMT_LEFT},
                          {L"현재가", 92, LVCFMT_RIGHT},  {L"전일대비", 92, LVCFMT_RIGHT},
                          {L"등락률", 78, LVCFMT_RIGHT},  {L"거래량", 96, LVCFMT_RIGHT}};
    panel_font = font;
    table = CreateWindowExW(WS_EX_CLIENTEDGE, WC_LISTVIEWW, L"",
                            WS_CHILD | WS_VISIBLE | WS_TABSTOP | LVS_REPORT | LVS_SINGLESEL | LVS_SHOWSELALWAYS, 0, 0,
                            0, 0, parent, (HMENU)(INT_PTR)list_id, GetModuleHandleW(NULL), NULL);
    SendMessageW(table, WM_SETFONT, (WPARAM)font, FALSE);
    ListView_SetExtendedListViewStyle(table, LVS_EX_FULLROWSELECT | LVS_EX_GRIDLINES | LVS_EX_DOUBLEBUFFER);
    for (int i = 0; i < COLUMNS; i++) {
        LVCOLUMNW column = {0};
        column.mask = LVCF_TEXT | LVCF_WIDTH | LVCF_FMT;
        column.pszText = columns[i].title;
        column.cx = columns[i].width;
        column.fmt = columns[i].format;
        SendMessageW(table, LVM_INSERTCOLUMNW, (WPARAM)i, (LPARAM)&column);
    }
    /* The rows of a report list are as high as its images: an empty list of images makes them airy. */
    ListView_SetImageList(table, ImageList_Create(1, ROW_HEIGHT, ILC_COLOR, 0, 1), LVSIL_SMALL);
    chart = create_painted(parent, L"HtsChart", chart_proc);
#ifdef HTS_FEATURE_ORDER_BOOK
    book = create_painted(parent, L"HtsOrderBook", book_proc);
#endif
    read_stocks();
    ListView_SetItemState(table, 0, LVIS_SELECTED | LVIS_FOCUSED, LVIS_SELECTED | LVIS_FOCUSED);
}

void quote_panel_layout(RECT left, RECT column)
{
    MoveWindow(table, left.left, left.top, left.right - left.left, left.bottom - left.top, TRUE);
    int bottom = column.bottom;
#ifdef HTS_FEATURE_ORDER_BOOK
    bottom -= BOOK_HEIGHT + 6;
    MoveWindow(book, column.left, bottom + 6, column.right - column.left, BOOK_HEIGHT, TRUE);
#endif
    MoveWindow(chart, column.left, column.top, column.right - column.left, bottom - column.top, TRUE);
}

BOOL quote_panel_update(const wchar_t *code, LONG price, LONG volume, LONG tick_size)
{
    int row = 0;
    while (row < row_count && wcscmp(rows[row].stock.code, code) != 0)
        row++;
    if (row == row_count)
        return FALSE;
    if (rows[row].history_size == HISTORY) {
        memmove(rows[row].history, rows[row].history + 1, (HISTORY - 1) * sizeof rows[row].history[0]);
        rows[row].history_size--;
    }
    rows[row].history[rows[row].history_size++] = price;
    rows[row].stock.price = price;
    rows[row].volume = volume;
    rows[row].tick_size = tick_size;
    show_row(row);
    if (row == selected)
        repaint_selected();
    return TRUE;
}

const HtsStock *quote_panel_selected(void)
{
    return row_count > 0 ? &rows[selected].stock : NULL;
}

static LRESULT colour_cell(NMLVCUSTOMDRAW *cell)
{
    if (cell->nmcd.dwDrawStage == CDDS_PREPAINT)
        return CDRF_NOTIFYITEMDRAW;
    if (cell->nmcd.dwDrawStage == CDDS_ITEMPREPAINT)
        return CDRF_NOTIFYSUBITEMDRAW;
    if (cell->nmcd.dwDrawStage == (CDDS_ITEMPREPAINT | CDDS_SUBITEM)) {
        BOOL priced = cell->iSubItem >= COLUMN_PRICE && cell->iSubItem <= COLUMN_PERCENT;
        cell->clrText = priced ? colour_of((int)cell->nmcd.dwItemSpec) : COLOUR_FLAT;
    }
    return CDRF_DODEFAULT;
}

LRESULT quote_panel_notify(LPARAM parameter, BOOL *selection_changed)
{
    NMHDR *header = (NMHDR *)parameter;
    *selection_changed = FALSE;
    if (header->hwndFrom != table)
        return 0;
    if (header->code == NM_CUSTOMDRAW)
        return colour_cell((NMLVCUSTOMDRAW *)parameter);
    if (header->code == LVN_ITEMCHANGED) {
        NMLISTVIEW *change = (NMLISTVIEW *)parameter;
        if ((change->uNewState & LVIS_SELECTED) && change->iItem >= 0 && change->iItem < row_count) {
            selected = change->iItem;
            *selection_changed = TRUE;
            repaint_selected();
        }
    }
    return 0;
}
