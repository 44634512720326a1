/* The trading program's window and flow: update check, login, connection, quotes, orders.
 *
 * Nothing starts by itself: the two buttons decide when a stage begins, so that a test harness can tell
 * "launch" from "self update" from "connect". What may be slow or blocked by a security product (starting the
 * updater, loading a DLL) happens in a thread; the window only ever receives messages.
 *
 * The connection DLL is touched when connecting and not a moment earlier: no import, no version query, no listing.
 */
#include <windows.h>

#include <commctrl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "hts_comm.h"
#include "hts_config.h"
#include "hts_core.h"
#include "hts_log.h"
#include "hts_update.h"
#include "quote_panel.h"

#define WINDOW_TITLE HTS_TITLE L" " HTS_VERSION
#define WINDOW_CLASS L"DemoHtsMain"
#define QUOTE_LOG_INTERVAL_MS 2000
#define CONNECTION_ERROR_TITLE L"접속 오류"
#define UPDATE_ERROR_TITLE L"업데이트 오류"

enum {
    ID_USER = 101,
    ID_UPDATE,
    ID_LOGIN,
    ID_PRICE,
    ID_QUANTITY,
    ID_BUY,
    ID_SELL,
    ID_STOCK_NAME,
    ID_TABLE,
    ID_STATUS
};

enum {
    MESSAGE_UPDATE_DONE = WM_APP + 1, /* lparam: UpdateResult, ours to free */
    MESSAGE_LOAD_FAILED,              /* wparam: module name, lparam: error number */
    MESSAGE_COMM_EVENT                /* lparam: HtsCommEvent, ours to free */
};

typedef enum { READY, UPDATING, CONNECTING, CONNECTED, DISCONNECTED } State;

typedef struct {
    BOOL started;
    DWORD exit_code;
    DWORD error; /* Windows error number: of starting it, or as the updater told it */
} UpdateResult;

static HWND main_window, status_bar;
static HFONT ui_font;
static State state = READY;
static BOOL update_checked, login_wanted;
static HtsCommConfig comm_config;
static ULONGLONG quote_logged;
static unsigned quote_count;

/* Filled by the login thread before the first event is posted. */
static struct {
    HtsCoreVersionFn version;
    HtsTickSizeFn tick_size;
    HtsParseQuoteFn parse_quote;
    HtsCheckOrderFn check_order;
} core;
static struct {
    HtsCommVersionFn version;
    HtsCommProtocolFn protocol;
    HtsCommStartFn start;
    HtsCommSendFn send;
    HtsCommStopFn stop;
    HtsCommSession *session;
} comm;

/* ---- what the window shows ---- */

static void show_status(int part, const wchar_t *text)
{
    SendMessageW(status_bar, SB_SETTEXTW, (WPARAM)part, (LPARAM)text);
}

static void enable(int id, BOOL enabled)
{
    EnableWindow(GetDlgItem(main_window, id), enabled);
}

static void enter(State next)
{
    static const wchar_t *const titles[] = {
        [READY] = WINDOW_TITLE,
        [UPDATING] = WINDOW_TITLE,
        [CONNECTING] = WINDOW_TITLE L" - 접속 중",
        [CONNECTED] = WINDOW_TITLE L" - 접속됨",
        [DISCONNECTED] = WINDOW_TITLE L" - 접속 끊김",
    };
    state = next;
    SetWindowTextW(main_window, titles[next]);
    enable(ID_UPDATE, next == READY);
    enable(ID_LOGIN, next == READY);
    enable(ID_USER, next == READY);
    enable(ID_BUY, next == CONNECTED);
    enable(ID_SELL, next == CONNECTED);
}

static void show_error(const wchar_t *title, const wchar_t *text)
{
    hts_log(L"dialog title=\"%ls\" text=\"%ls\"", title, text);
    MessageBoxW(main_window, text, title, MB_OK | MB_ICONERROR);
}

/* ---- update check ---- */

/* Collect what the updater writes until it ends; it says "error=<number>". */
static DWORD read_updater_error(HANDLE pipe)
{
    char text[128];
    DWORD used = 0, size = 0;
    unsigned long error = 0;
    while (used < sizeof text - 1 && ReadFile(pipe, text + used, sizeof text - 1 - used, &size, NULL) && size > 0)
        used += size;
    text[used] = '\0';
    sscanf(text, "error=%lu", &error);
    return error;
}

static void run_updater(UpdateResult *result)
{
    wchar_t path[MAX_PATH], command[MAX_PATH + 2];
    SECURITY_ATTRIBUTES inherit = {sizeof inherit, NULL, TRUE};
    STARTUPINFOW startup = {0};
    PROCESS_INFORMATION process;
    HANDLE reader, writer;

    hts_path(path, HTS_FILE_UPDATER);
    swprintf(command, MAX_PATH + 2, L"\"%ls\"", path);
    if (!CreatePipe(&reader, &writer, &inherit, 0)) {
        result->error = GetLastError();
        return;
    }
    SetHandleInformation(reader, HANDLE_FLAG_INHERIT, 0);
    startup.cb = sizeof startup;
    startup.dwFlags = STARTF_USESTDHANDLES;
    startup.hStdOutput = startup.hStdError = writer;
    result->started = CreateProcessW(path, command, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process);
    result->error = result->started ? 0 : GetLastError();
    CloseHandle(writer);
    if (result->started) {
        result->error = read_updater_error(reader);
        WaitForSingleObject(process.hProcess, INFINITE);
        GetExitCodeProcess(process.hProcess, &result->exit_code);
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
    }
    CloseHandle(reader);
}

static DWORD WINAPI update_thread(void *unused)
{
    (void)unused;
    UpdateResult *result = calloc(1, sizeof *result);
    if (result != NULL)
        run_updater(result);
    PostMessageW(main_window, MESSAGE_UPDATE_DONE, 0, (LPARAM)result);
    return 0;
}

static void begin_update(void)
{
    hts_log(L"update begin");
    enter(UPDATING);
    show_status(0, L"업데이트 확인 중...");
    CloseHandle(CreateThread(NULL, 0, update_thread, NULL, 0, NULL));
}

static void begin_login(void);

static const wchar_t *updater_cause(DWORD exit_code)
{
    switch (exit_code) {
    case HTS_UPDATE_BAD_CONFIG: return L"설정 파일을 읽을 수 없습니다.";
    case HTS_UPDATE_UNREACHABLE: return L"업데이트 서버에 연결할 수 없습니다.";
    case HTS_UPDATE_BAD_ANSWER: return L"업데이트 서버의 응답이 올바르지 않습니다.";
    case HTS_UPDATE_BAD_HASH: return L"내려받은 파일이 손상되었습니다.";
    case HTS_UPDATE_WRITE_FAILED: return L"파일을 교체할 수 없습니다.";
    default: return L"업데이트 프로그램이 비정상 종료되었습니다.";
    }
}

static void update_failed(const UpdateResult *result)
{
    wchar_t text[256];
    if (result->started) {
        hts_log(L"update failed module=%ls exit=%lu error=%lu", HTS_FILE_UPDATER, result->exit_code, result->error);
        swprintf(text, 256, L"%ls (종료 코드 %lu, 오류 %lu)", updater_cause(result->exit_code), result->exit_code,
                 result->error);
    } else {
        hts_log(L"update failed module=%ls error=%lu", HTS_FILE_UPDATER, result->error);
        swprintf(text, 256, L"%ls을(를) 실행할 수 없습니다. (오류 %lu)", HTS_FILE_UPDATER, result->error);
    }
    show_status(0, L"업데이트 실패");
    show_error(UPDATE_ERROR_TITLE, text);
}

static void on_update_done(UpdateResult *result)
{
    static const UpdateResult no_memory = {FALSE, 0, ERROR_OUTOFMEMORY};
    const UpdateResult *seen = result ? result : &no_memory;
    BOOL go_on = login_wanted;
    login_wanted = FALSE;
    update_checked = TRUE;
    enter(READY);
    if (!seen->started || seen->exit_code != HTS_UPDATE_OK) {
        update_failed(seen);
    } else {
        hts_log(L"update done exit=%lu", seen->exit_code);
        show_status(0, L"업데이트 완료");
        if (go_on)
            begin_login();
    }
    free(result);
}

/* ---- login and connection ---- */

static HMODULE load_module(const wchar_t *name)
{
    wchar_t path[MAX_PATH];
    hts_path(path, name);
    return LoadLibraryExW(path, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
}

static DWORD load_core(void)
{
    HMODULE module = load_module(HTS_FILE_CORE);
    if (module == NULL)
        return GetLastError();
    core.version = (HtsCoreVersionFn)(void *)GetProcAddress(module, "HtsCoreVersion");
    core.tick_size = (HtsTickSizeFn)(void *)GetProcAddress(module, "HtsTickSize");
    core.parse_quote = (HtsParseQuoteFn)(void *)GetProcAddress(module, "HtsParseQuote");
    core.check_order = (HtsCheckOrderFn)(void *)GetProcAddress(module, "HtsCheckOrder");
    return core.version && core.tick_size && core.parse_quote && core.check_order ? 0 : ERROR_PROC_NOT_FOUND;
}

static DWORD load_comm(void)
{
    HMODULE module = load_module(HTS_FILE_COMM);
    if (module == NULL)
        return GetLastError();
    comm.version = (HtsCommVersionFn)(void *)GetProcAddress(module, "HtsCommVersion");
    comm.protocol = (HtsCommProtocolFn)(void *)GetProcAddress(module, "HtsCommProtocol");
    comm.start = (HtsCommStartFn)(void *)GetProcAddress(module, "HtsCommStart");
    comm.send = (HtsCommSendFn)(void *)GetProcAddress(module, "HtsCommSend");
    comm.stop = (HtsCommStopFn)(void *)GetProcAddress(module, "HtsCommStop");
    return comm.version && comm.protocol && comm.start && comm.send && comm.stop ? 0 : ERROR_PROC_NOT_FOUND;
}

/* Runs in the connection's thread: hand a copy to the window. */
static void on_comm_sink(void *context, const HtsCommEvent *event)
{
    HtsCommEvent *copy = malloc(sizeof *copy);
    (void)context;
    if (copy == NULL)
        return;
    *copy = *event;
    if (!PostMessageW(main_window, MESSAGE_COMM_EVENT, 0, (LPARAM)copy))
        free(copy);
}

static DWORD WINAPI login_thread(void *unused)
{
    (void)unused;
    DWORD error = load_core();
    if (error != 0) {
        PostMessageW(main_window, MESSAGE_LOAD_FAILED, (WPARAM)HTS_FILE_CORE, error);
        return 0;
    }
    hts_log(L"core loaded version=%ls", core.version());
    hts_log(L"connect begin");
    error = load_comm();
    if (error == 0) {
        hts_log(L"comm loaded version=%ls protocol=%d", comm.version(), comm.protocol());
        comm.session = comm.start(&comm_config);
        error = comm.session ? 0 : GetLastError();
    }
    if (error != 0)
        PostMessageW(main_window, MESSAGE_LOAD_FAILED, (WPARAM)HTS_FILE_COMM, error);
    return 0;
}

static void read_comm_config(void)
{
    wchar_t path[MAX_PATH], host[64], port[8], user[32];
    hts_path(path, L"hts.ini");
    GetPrivateProfileStringW(L"server", L"host", L"127.0.0.1", host, 64, path);
    GetPrivateProfileStringW(L"server", L"port", L"", port, 8, path);
    GetDlgItemTextW(main_window, ID_USER, user, 32);
    WideCharToMultiByte(CP_UTF8, 0, host, -1, comm_config.host, sizeof comm_config.host, NULL, NULL);
    WideCharToMultiByte(CP_UTF8, 0, port, -1, comm_config.port, sizeof comm_config.port, NULL, NULL);
    WideCharToMultiByte(CP_UTF8, 0, user, -1, comm_config.user, sizeof comm_config.user, NULL, NULL);
    comm_config.sink = on_comm_sink;
}

static void begin_login(void)
{
    read_comm_config();
    hts_log(L"login begin user=%hs", comm_config.user);
    enter(CONNECTING);
    show_status(0, L"서버에 접속 중...");
    CloseHandle(CreateThread(NULL, 0, login_thread, NULL, 0, NULL));
}

/* As in the incident: the program says what is wrong, and goes no further. It stays "connecting" for ever. */
static void on_load_failed(const wchar_t *module, DWORD error)
{
    wchar_t text[256];
    hts_log(L"connect failed module=%ls error=%lu", module, error);
    swprintf(text, 256, L"%ls을(를) 불러올 수 없습니다. (오류 %lu)", module, error);
    show_error(CONNECTION_ERROR_TITLE, text);
}

static void on_unreachable(DWORD error)
{
    wchar_t text[256];
    hts_log(L"connect failed server=%hs:%hs error=%lu", comm_config.host, comm_config.port, error);
    swprintf(text, 256, L"거래 서버에 연결할 수 없습니다. (오류 %lu)", error);
    show_error(CONNECTION_ERROR_TITLE, text);
}

static void on_refused(const char *reason)
{
    wchar_t text[256];
    hts_log(L"connect failed server=%hs:%hs refused=%hs", comm_config.host, comm_config.port, reason);
    swprintf(text, 256, L"거래 서버가 접속을 거부했습니다. (사유: %hs)", reason);
    show_error(CONNECTION_ERROR_TITLE, text);
}

static void on_lost(DWORD error)
{
    wchar_t text[256];
    hts_log(L"connection lost error=%lu", error);
    enter(DISCONNECTED);
    show_status(0, L"접속이 끊어졌습니다.");
    swprintf(text, 256, L"거래 서버와의 접속이 끊어졌습니다. (오류 %lu)", error);
    show_error(CONNECTION_ERROR_TITLE, text);
}

static void on_connected(void)
{
    wchar_t text[128];
    hts_log(L"connected server=%hs:%hs", comm_config.host, comm_config.port);
    enter(CONNECTED);
    swprintf(text, 128, L"접속됨  %hs:%hs", comm_config.host, comm_config.port);
    show_status(0, text);
    swprintf(text, 128, L"주문 모듈 %ls", core.version());
    show_status(1, text);
}

static void on_heartbeat(DWORD rtt_ms)
{
    wchar_t text[64];
    hts_log(L"heartbeat rtt_ms=%lu", rtt_ms);
    swprintf(text, 64, L"지연 %lu ms", rtt_ms);
    show_status(2, text);
}

static void on_line(const char *line)
{
    HtsQuote quote;
    wchar_t code[16], text[64];
    if (core.parse_quote(line, &quote)) {
        swprintf(code, 16, L"%hs", quote.code);
        quote_panel_update(code, quote.price, quote.volume, core.tick_size(quote.price));
        quote_count++;
        if (GetTickCount64() - quote_logged >= QUOTE_LOG_INTERVAL_MS) {
            quote_logged = GetTickCount64();
            hts_log(L"quote code=%ls price=%ld volume=%ld count=%u", code, quote.price, quote.volume, quote_count);
        }
    } else if (strncmp(line, "ORDER_OK ", 9) == 0) {
        hts_log(L"order accepted number=%hs", line + 9);
        swprintf(text, 64, L"주문이 접수되었습니다. (번호 %hs)", line + 9);
        show_status(0, text);
    } else {
        hts_log(L"ignored line=\"%hs\"", line);
    }
}

static void on_comm_event(HtsCommEvent *event)
{
    switch (event->kind) {
    case HTS_COMM_CONNECTED: on_connected(); break;
    case HTS_COMM_UNREACHABLE: on_unreachable(event->error); break;
    case HTS_COMM_REFUSED: on_refused(event->text); break;
    case HTS_COMM_LINE: on_line(event->text); break;
    case HTS_COMM_HEARTBEAT: on_heartbeat(event->rtt_ms); break;
    case HTS_COMM_LOST: on_lost(event->error); break;
    }
    free(event);
}

/* ---- orders ---- */

static void show_selected_stock(void)
{
    const HtsStock *stock = quote_panel_selected();
    if (stock == NULL)
        return;
    SetDlgItemTextW(main_window, ID_STOCK_NAME, stock->name);
    SetDlgItemInt(main_window, ID_PRICE, (UINT)stock->price, FALSE);
}

static void place_order(BOOL buy)
{
    static const wchar_t *const problems[] = {
        [HTS_ORDER_BAD_QUANTITY] = L"주문 수량을 확인하십시오.",
        [HTS_ORDER_BAD_TICK] = L"호가 단위에 맞지 않는 가격입니다.",
        [HTS_ORDER_OVER_LIMIT] = L"상한가를 넘는 가격입니다.",
        [HTS_ORDER_UNDER_LIMIT] = L"하한가보다 낮은 가격입니다.",
    };
    char line[128];
    const HtsStock *stock = quote_panel_selected();
    if (state != CONNECTED || stock == NULL)
        return;
    HtsOrder order = {buy, (LONG)GetDlgItemInt(main_window, ID_PRICE, NULL, FALSE),
                      (LONG)GetDlgItemInt(main_window, ID_QUANTITY, NULL, FALSE), stock->previous_close};
    HtsOrderCheck check = core.check_order(&order);
    if (check != HTS_ORDER_OK) {
        show_status(0, problems[check]);
        return;
    }
    snprintf(line, sizeof line, "ORDER %s %ls %ld %ld", buy ? "BUY" : "SELL", stock->code, order.price, order.quantity);
    hts_log(L"order sent %hs", line + 6);
    if (!comm.send(comm.session, line))
        show_status(0, L"주문을 보낼 수 없습니다.");
}

/* ---- window ---- */

static HWND add(const wchar_t *class_name, const wchar_t *text, DWORD style, int id, RECT at)
{
    DWORD edge = wcscmp(class_name, L"EDIT") == 0 ? WS_EX_CLIENTEDGE : 0;
    HWND control = CreateWindowExW(edge, class_name, text, WS_CHILD | WS_VISIBLE | style, at.left, at.top, at.right,
                                   at.bottom, main_window, (HMENU)(INT_PTR)id, GetModuleHandleW(NULL), NULL);
    SendMessageW(control, WM_SETFONT, (WPARAM)ui_font, FALSE);
    return control;
}

static void create_controls(void)
{
    wchar_t path[MAX_PATH], user[32];
    hts_path(path, L"hts.ini");
    GetPrivateProfileStringW(L"user", L"id", L"", user, 32, path);

    /* left, top, width, height; what belongs to the right column is placed by layout() */
    add(L"STATIC", L"사용자 ID", SS_CENTERIMAGE, -1, (RECT){12, 10, 66, 26});
    add(L"EDIT", user, WS_TABSTOP | ES_AUTOHSCROLL, ID_USER, (RECT){80, 10, 120, 26});
    add(L"BUTTON", L"업데이트 확인", WS_TABSTOP, ID_UPDATE, (RECT){212, 9, 116, 28});
    add(L"BUTTON", L"로그인", WS_TABSTOP | BS_DEFPUSHBUTTON, ID_LOGIN, (RECT){336, 9, 92, 28});
    quote_panel_create(main_window, ui_font, ID_TABLE);
    add(L"STATIC", L"", SS_CENTERIMAGE, ID_STOCK_NAME, (RECT){0});
    add(L"EDIT", L"", WS_TABSTOP | ES_NUMBER | ES_RIGHT, ID_PRICE, (RECT){0});
    add(L"EDIT", L"10", WS_TABSTOP | ES_NUMBER | ES_RIGHT, ID_QUANTITY, (RECT){0});
    add(L"BUTTON", L"매수", WS_TABSTOP, ID_BUY, (RECT){0});
    add(L"BUTTON", L"매도", WS_TABSTOP, ID_SELL, (RECT){0});
    status_bar = add(STATUSCLASSNAMEW, L"", SBARS_SIZEGRIP, ID_STATUS, (RECT){0});
    show_status(0, L"준비");
    show_selected_stock();
}

static void place(int id, int left, int top, int width, int height)
{
    MoveWindow(GetDlgItem(main_window, id), left, top, width, height, TRUE);
}

static void layout(int width, int height)
{
    RECT status;
    SendMessageW(status_bar, WM_SIZE, 0, 0);
    GetWindowRect(status_bar, &status);
    int bottom = height - (status.bottom - status.top) - 8, right = width - 10, column = right - 312;
    int parts[3] = {width / 2, width * 3 / 4, -1};
    SendMessageW(status_bar, SB_SETPARTS, 3, (LPARAM)parts);
    quote_panel_layout((RECT){10, 46, column - 8, bottom}, (RECT){column, 46, right, bottom - 42});
    int top = bottom - 30;
    place(ID_STOCK_NAME, column, top, 84, 26);
    place(ID_PRICE, column + 86, top, 74, 26);
    place(ID_QUANTITY, column + 164, top, 44, 26);
    place(ID_BUY, column + 212, top - 1, 48, 28);
    place(ID_SELL, column + 264, top - 1, 48, 28);
}

/* A disabled button can still be "pressed" by a message: the state decides, not the button. */
static void on_command(int id)
{
    switch (id) {
    case ID_UPDATE:
        if (state == READY)
            begin_update();
        break;
    case ID_LOGIN:
        if (state == READY && update_checked) {
            begin_login();
        } else if (state == READY) {
            login_wanted = TRUE;
            begin_update();
        }
        break;
    case ID_BUY: place_order(TRUE); break;
    case ID_SELL: place_order(FALSE); break;
    }
}

static LRESULT CALLBACK window_proc(HWND window, UINT message, WPARAM wparam, LPARAM lparam)
{
    BOOL selection_changed;
    LRESULT result;
    switch (message) {
    case WM_CREATE:
        main_window = window;
        create_controls();
        enter(READY);
        return 0;
    case WM_SIZE: layout(LOWORD(lparam), HIWORD(lparam)); return 0;
    case WM_GETMINMAXINFO: ((MINMAXINFO *)lparam)->ptMinTrackSize = (POINT){820, 480}; return 0;
    case WM_COMMAND: on_command(LOWORD(wparam)); return 0;
    case WM_NOTIFY:
        result = quote_panel_notify(lparam, &selection_changed);
        if (selection_changed)
            show_selected_stock();
        return result;
    case MESSAGE_UPDATE_DONE: on_update_done((UpdateResult *)lparam); return 0;
    case MESSAGE_LOAD_FAILED: on_load_failed((const wchar_t *)wparam, (DWORD)lparam); return 0;
    case MESSAGE_COMM_EVENT: on_comm_event((HtsCommEvent *)lparam); return 0;
    case WM_DESTROY:
        if (comm.session != NULL)
            comm.stop(comm.session);
        hts_log(L"exit");
        PostQuitMessage(0);
        return 0;
    }
    return DefWindowProcW(window, message, wparam, lparam);
}

static BOOL open_window(HINSTANCE instance, int show)
{
    WNDCLASSW class = {0};
    class.lpfnWndProc = window_proc;
    class.hInstance = instance;
    class.hIcon = LoadIconW(instance, MAKEINTRESOURCEW(1));
    class.hCursor = LoadCursorW(NULL, (LPCWSTR)IDC_ARROW);
    class.hbrBackground = (HBRUSH)(COLOR_BTNFACE + 1);
    class.lpszClassName = WINDOW_CLASS;
    if (!RegisterClassW(&class))
        return FALSE;
    CreateWindowExW(0, WINDOW_CLASS, WINDOW_TITLE, WS_OVERLAPPEDWINDOW | WS_CLIPCHILDREN, 24, 24, 940, 580, NULL,
                    NULL, instance, NULL);
    if (main_window == NULL)
        return FALSE;
    ShowWindow(main_window, show);
    return TRUE;
}

int WINAPI wWinMain(HINSTANCE instance, HINSTANCE previous, PWSTR command_line, int show)
{
    MSG message;
    INITCOMMONCONTROLSEX controls = {sizeof controls, ICC_LISTVIEW_CLASSES | ICC_BAR_CLASSES};
    (void)previous, (void)command_line;

    /* A damaged DLL shall come back as an error number, not as a dialog of the system that blocks the thread. */
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOOPENFILEERRORBOX);
    hts_log_open(L"hts.log");
    hts_log(L"start version=%ls", HTS_VERSION);
    InitCommonControlsEx(&controls);
    ui_font = CreateFontW(-13, 0, 0, 0, FW_NORMAL, FALSE, FALSE, FALSE, HANGUL_CHARSET, OUT_DEFAULT_PRECIS,
                          CLIP_DEFAULT_PRECIS, CLEARTYPE_QUALITY, DEFAULT_PITCH | FF_DONTCARE, L"Malgun Gothic");
    if (!open_window(instance, show)) {
        hts_log(L"window failed error=%lu", GetLastError());
        return 1;
    }
    hts_log(L"window shown");
    while (GetMessageW(&message, NULL, 0, 0) > 0) {
        if (IsDialogMessageW(main_window, &message))
            continue;
        TranslateMessage(&message);
        DispatchMessageW(&message);
    }
    return (int)message.wParam;
}
